//! What the editor asks while a line is typed: is it complete, and how may it go on.

use std::{cell::RefCell, collections::BTreeSet, collections::HashMap};

use crate::{Store, block_on};
use clap::CommandFactory;
use rustyline::{
    Context, Helper,
    completion::{Completer, Pair},
    highlight::Highlighter,
    hint::Hinter,
    validate::{ValidationContext, ValidationResult, Validator},
};
use serde_json::Value;

use super::{Line, SHELL_COMMANDS, line};

/// Documents of a collection that are looked at for the names of its fields.
const SAMPLE: usize = 100;
/// How deep names of fields are looked for.
const DEPTH_MAX: usize = 4;
const OPERATORS: [&str; 24] = [
    "$all",
    "$and",
    "$elemMatch",
    "$eq",
    "$exists",
    "$expr",
    "$gt",
    "$gte",
    "$in",
    "$inc",
    "$lt",
    "$lte",
    "$mod",
    "$ne",
    "$nin",
    "$nor",
    "$not",
    "$or",
    "$regex",
    "$set",
    "$size",
    "$text",
    "$type",
    "$unset",
];
const STAGES: [&str; 11] = [
    "$addFields",
    "$count",
    "$group",
    "$limit",
    "$lookup",
    "$match",
    "$project",
    "$skip",
    "$sort",
    "$unset",
    "$unwind",
];

/// Knows the store, for the names in it.
pub(super) struct Assistant {
    store: Store,
    commands: clap::Command,
    /// Names of fields by collection, with the last commit at which they were looked up.
    fields: RefCell<HashMap<String, (u64, Vec<String>)>>,
}

impl Assistant {
    pub(super) fn new(store: Store) -> Self {
        Self { store, commands: Line::command(), fields: RefCell::default() }
    }

    /// The candidates for the word that ends at the end of `line`, and where it begins.
    pub(super) fn candidates(&self, line: &str) -> (usize, Vec<String>) {
        let start = word_start(line);
        let typed = &line[start..];
        let before: Vec<&str> = line[..start].split_whitespace().collect();
        let mut all = match (before.first(), self.inside_json(line)) {
            (None, _) => self.command_names(),
            (Some(command), true) => self.json_names(command, before.get(1).copied(), typed),
            (Some(command), false) => self.arguments(command, &before, typed),
        };
        all.retain(|name| name.starts_with(typed) && name != typed);
        all.sort_unstable();
        all.dedup();
        (start, all)
    }

    fn command_names(&self) -> Vec<String> {
        let commands = self.commands.get_subcommands().map(|command| command.get_name().to_owned());
        commands.chain(SHELL_COMMANDS.map(str::to_owned)).collect()
    }

    fn inside_json(&self, line: &str) -> bool {
        matches!(line::split(line), Ok(line::Split::Open)) && line.contains(['{', '['])
    }

    fn arguments(&self, command: &str, before: &[&str], typed: &str) -> Vec<String> {
        let Some(mut found) = self.commands.find_subcommand(command) else {
            return if command == ".mode" {
                vec!["json".into(), "table".into()]
            } else {
                Vec::new()
            };
        };
        // `index create` has subcommands of its own, and its arguments come after them.
        let mut at = 1;
        if found.has_subcommands() {
            if before.len() == 1 {
                return found.get_subcommands().map(|sub| sub.get_name().to_owned()).collect();
            }
            let Some(sub) = found.find_subcommand(before[1]) else { return Vec::new() };
            (found, at) = (sub, 2);
        }
        if typed.starts_with('-') {
            let options = found.get_arguments().filter_map(clap::Arg::get_long);
            return options.map(|name| format!("--{name}")).collect();
        }
        let collection = before.get(at).copied();
        let wants_collection = found.get_positionals().next().map(clap::Arg::get_id);
        let has_collection = wants_collection.is_some_and(|id| id == "collection");
        match (collection, before.last().copied()) {
            (None, _) if has_collection => self.store.collections(),
            (Some(collection), Some("--hint")) => self.indexes(collection),
            (Some(collection), _) if at == 2 && before[1] == "drop" => self.indexes(collection),
            (Some(collection), _) if at == 2 => self.fields(collection),
            _ => Vec::new(),
        }
    }

    fn json_names(&self, command: &str, collection: Option<&str>, typed: &str) -> Vec<String> {
        if typed.starts_with('$') {
            let stages = STAGES.iter().filter(|_| command == "aggregate");
            return OPERATORS.iter().chain(stages).map(|name| (*name).to_owned()).collect();
        }
        collection.map(|name| self.fields(name)).unwrap_or_default()
    }

    fn indexes(&self, collection: &str) -> Vec<String> {
        let Ok(collection) = self.store.collection(collection) else { return Vec::new() };
        let ordered = collection.indexes().into_iter().map(|info| info.name);
        ordered.chain(collection.text_indexes().into_iter().map(|index| index.name)).collect()
    }

    /// Of the first documents; read again when something was written since.
    fn fields(&self, collection: &str) -> Vec<String> {
        let seq = self.store.stats().visible_seq;
        if let Some((at, names)) = self.fields.borrow().get(collection)
            && *at == seq
        {
            return names.clone();
        }
        let names: Vec<String> = self.sample(collection).unwrap_or_default().into_iter().collect();
        self.fields.borrow_mut().insert(collection.to_owned(), (seq, names.clone()));
        names
    }

    fn sample(&self, collection: &str) -> crate::Result<BTreeSet<String>> {
        let mut names = BTreeSet::new();
        let mut scan = self.store.collection(collection)?.scan(..);
        for _ in 0..SAMPLE {
            let Some(document) = block_on(scan.next())? else { break };
            note_fields(&document.value(), "", DEPTH_MAX, &mut names);
        }
        Ok(names)
    }
}

/// Dotted paths of an object, and of the objects in its arrays.
fn note_fields(value: &Value, path: &str, depth: usize, names: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) if depth > 0 => {
            for (name, value) in members {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                note_fields(value, &path, depth - 1, names);
                // A name that would need quotes and escapes is not offered.
                if !name.contains(|c: char| c.is_control() || c == '"' || c == '\\') {
                    names.insert(path);
                }
            }
        }
        Value::Array(elements) => {
            elements.iter().for_each(|element| note_fields(element, path, depth, names));
        }
        _ => {}
    }
}

fn word_start(line: &str) -> usize {
    let ends = |c: char| c.is_whitespace() || matches!(c, '{' | '[' | '"' | '\'' | ',' | ':' | '(');
    line.char_indices().rev().find(|(_, c)| ends(*c)).map_or(0, |(at, c)| at + c.len_utf8())
}

impl Completer for Assistant {
    type Candidate = Pair;

    fn complete(
        &self,
        line: &str,
        pos: usize,
        _: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<Pair>)> {
        let (start, names) = self.candidates(&line[..pos]);
        let in_json = self.inside_json(&line[..pos]);
        let is_quoted = line[..start].ends_with('"');
        let pair = |name: String| {
            let replacement = match (in_json, is_quoted) {
                (true, false) => format!("\"{name}\""),
                (true, true) => format!("{name}\""),
                _ => format!("{name} "),
            };
            Pair { display: name, replacement }
        };
        Ok((start, names.into_iter().map(pair).collect()))
    }
}

impl Validator for Assistant {
    fn validate(&self, context: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        Ok(match line::split(context.input()) {
            Ok(line::Split::Open) => ValidationResult::Incomplete,
            _ => ValidationResult::Valid(None),
        })
    }
}

impl Hinter for Assistant {
    type Hint = String;
}

impl Highlighter for Assistant {}

impl Helper for Assistant {}

#[cfg(test)]
mod tests {
    use crate::{Index, Options};
    use serde_json::json;

    use super::*;

    #[test]
    fn what_may_follow() {
        let dir = tempfile::tempdir().unwrap();
        let store = block_on(Store::open(Options::new(dir.path()))).unwrap();
        block_on(async {
            let people = store.collection("people")?;
            people.insert(&json!({"_id": 1, "name": {"first": "Ada"}, "tags": [{"t": 1}]})).await?;
            people.create_index(Index::on("name.first")).await?;
            store.collection("pets")?.insert(&json!({"_id": 1, "sound": "miaow"})).await
        })
        .unwrap();
        let assistant = Assistant::new(store);
        let check = |line: &str, want: &[&str]| {
            let (start, found) = assistant.candidates(line);
            assert_eq!(found, want, "{line}");
            assert!(found.iter().all(|name| name.starts_with(&line[start..])));
        };
        check("fi", &["find"]);
        check("coll", &["collections"]);
        check(".m", &[".mode"]);
        check(".mode j", &["json"]);
        check("find p", &["people", "pets"]);
        check("find people {na", &["name", "name.first"]);
        check("find people {\"na", &["name", "name.first"]);
        check("find people {\"tags.", &["tags.t"]);
        check("find people {\"name\": {\"$ex", &["$exists", "$expr"]);
        check("aggregate people [{\"$gr", &["$group"]);
        check("find pets {s", &["sound"]);
        check("find people --sk", &["--skip"]);
        check("find people --hint na", &["name_first"]);
        check("index dr", &["drop"]);
        check("index drop people n", &["name_first"]);
        check("index create people na", &["name", "name.first"]);
        check("nonsense x", &[]);
    }
}
