//! Plans, for people and programs.

use serde_json::{Value, json};

use super::{
    bounds::{Bound, KeyRange},
    choose::{Access, IndexScan, Plan},
    execute::Execution,
};

/// How a query is answered: the plan, its rivals, and what it took if it was run.
#[derive(Debug, Clone, PartialEq)]
pub struct Explanation {
    json: Value,
}

impl Explanation {
    pub(crate) fn of(execution: &Execution, was_run: bool) -> Self {
        let mut json = json!({
            "plan": plan(execution.plan()),
            "rejected": execution.others().map(plan).collect::<Vec<_>>(),
        });
        if was_run {
            let actuals = &execution.actuals;
            json["actual"] = json!({
                "entries": actuals.entries,
                "documents": actuals.documents,
                "returned": actuals.returned,
                "sorted": actuals.sorted,
                "plans_given_up": actuals.switches,
            });
        }
        Self { json }
    }

    /// Of a collection that does not exist.
    pub(crate) fn of_nothing() -> Self {
        Self { json: json!({"plan": {"access": "nothing"}, "rejected": []}) }
    }

    /// `plan` with `access` (`index`, `ids`, `union` or `both`), `index`, `ranges`, `estimate`, `cost`,
    /// `sorts`, `covered`, `filters`, `backward`; `rejected` with the same of the others; `actual` if the query
    /// was run: `entries` and `documents` looked at, `returned`, `sorted`, `plans_given_up`.
    pub fn json(&self) -> &Value {
        &self.json
    }

    /// The indexes that could answer alone, `_id` among them: what a hint may name. Cheapest first.
    pub fn candidates(&self) -> Vec<String> {
        let plans = std::iter::once(&self.json["plan"]);
        let plans = plans.chain(self.json["rejected"].as_array().into_iter().flatten());
        let name = |plan: &Value| match plan["access"].as_str() {
            Some("ids") => Some("_id".to_owned()),
            Some("index") => plan["index"].as_str().map(str::to_owned),
            _ => None,
        };
        plans.filter_map(name).collect()
    }

    /// The index that is used; `None` if documents are read in the order of their ids, or several
    /// indexes are used.
    pub fn index(&self) -> Option<&str> {
        self.json["plan"]["index"].as_str()
    }
}

impl std::fmt::Display for Explanation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let line = |plan: &Value| {
            let mut line = plan["access"].as_str().unwrap_or_default().to_owned();
            let parts = plan["parts"].as_array().into_iter().flatten();
            for part in std::iter::once(plan).chain(parts) {
                for name in ["index", "ranges"] {
                    if !part[name].is_null() {
                        line += &format!(" {}", part[name]);
                    }
                }
            }
            for name in ["filters", "sorts", "covered", "backward"] {
                if plan[name] == true {
                    line += &format!(", {name}");
                }
            }
            format!("{line}; about {} rows, cost {}", plan["estimate"], plan["cost"])
        };
        writeln!(f, "plan:     {}", line(&self.json["plan"]))?;
        for rejected in self.json["rejected"].as_array().into_iter().flatten() {
            writeln!(f, "rejected: {}", line(rejected))?;
        }
        if let Some(actual) = self.json["actual"].as_object() {
            let text: Vec<String> = actual.iter().map(|(k, v)| format!("{v} {k}")).collect();
            writeln!(f, "actual:   {}", text.join(", ").replace('_', " "))?;
        }
        Ok(())
    }
}

/// A plan in a few words, without the values that are looked up.
pub(crate) struct PlanSummary<'a>(pub(crate) &'a Plan);

impl std::fmt::Display for PlanSummary<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self(plan) = self;
        match &plan.access {
            Access::Ids(ranges) if ranges.iter().any(|r| r.as_prefix() == Some(&[])) => {
                write!(f, "every document")?;
            }
            Access::Ids(ranges) => write!(f, "ids, {} ranges", ranges.len())?,
            Access::Index(scan) => {
                write!(f, "index {:?}, {} ranges", scan.index.name(), scan.ranges.len())?;
            }
            Access::Both { gathered, walked } => {
                write!(f, "indexes {:?} and {:?}", gathered.index.name(), walked.index.name())?;
            }
            Access::Union(scans) => {
                let names: Vec<_> = scans.iter().map(|scan| scan.index.name()).collect();
                write!(f, "union of indexes {names:?}")?;
            }
        }
        for (name, holds) in [
            (", filters", plan.has_residual),
            (", sorts", !plan.is_ordered),
            (", covered", plan.is_covered),
            (", backward", plan.is_backward),
        ] {
            if holds {
                f.write_str(name)?;
            }
        }
        Ok(())
    }
}

fn plan(plan: &Plan) -> Value {
    let mut json = json!({
        "estimate": plan.rows,
        "cost": (plan.cost * 10.0).round() / 10.0,
        "sorts": !plan.is_ordered,
        "filters": plan.has_residual,
        "covered": plan.is_covered,
        "backward": plan.is_backward,
    });
    match &plan.access {
        Access::Ids(ranges) => {
            json["access"] = json!("ids");
            json["ranges"] = describe(ranges);
        }
        Access::Index(scan) => {
            json["access"] = json!("index");
            json["index"] = json!(scan.index.name());
            json["ranges"] = describe(&scan.ranges);
        }
        Access::Both { gathered, walked } => {
            json["access"] = json!("both");
            json["parts"] = [gathered, walked].map(part).into_iter().collect();
        }
        Access::Union(scans) => {
            json["access"] = json!("union");
            json["parts"] = scans.iter().map(part).collect();
        }
    }
    json
}

fn part(scan: &IndexScan) -> Value {
    json!({"index": scan.index.name(), "ranges": describe(&scan.ranges)})
}

/// The first ranges; a list of a thousand helps nobody.
fn describe(ranges: &[KeyRange]) -> Value {
    const SHOWN_MAX: usize = 8;
    let mut shown: Vec<String> = ranges.iter().take(SHOWN_MAX).map(range_text).collect();
    if ranges.len() > SHOWN_MAX {
        shown.push(format!("and {} more", ranges.len() - SHOWN_MAX));
    }
    json!(shown)
}

fn range_text(range: &KeyRange) -> String {
    let side = |bound: &Bound| match bound {
        Bound::After(bytes) | Bound::Before(bytes) => crate::key::describe(bytes),
    };
    match range.as_prefix() {
        Some([]) => "everything".to_owned(),
        Some(bytes) => format!("= {}", crate::key::describe(bytes)),
        None => {
            let open = if matches!(range.from, Bound::After(_)) { "(" } else { "[" };
            let close = if matches!(range.to, Bound::After(_)) { "]" } else { ")" };
            format!("{open}{} .. {}{close}", side(&range.from), side(&range.to))
        }
    }
}
