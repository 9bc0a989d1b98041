//! Results as Markdown.

/// What one server did in one workload: the median of its rounds.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) server: String,
    /// Requests (or connections) per second; bytes per connection, milliseconds.
    pub(super) value: f64,
    /// Server CPU, user and system, per 1,000 requests.
    pub(super) cpu_ms_per_1k: Option<f64>,
    /// Largest difference between rounds, in percent of the median.
    pub(super) spread: f64,
    pub(super) errors: u64,
}

/// How a workload's value is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    RequestsPerSecond,
    BytesPerConnection,
    Milliseconds,
}

impl Unit {
    fn name(self) -> &'static str {
        match self {
            Self::RequestsPerSecond => "requests/s",
            Self::BytesPerConnection => "bytes/connection",
            Self::Milliseconds => "ms",
        }
    }
}

/// The table of one workload, best first. Ratios are by server CPU per request where that was
/// measured, and turned so that above 1 is better than nginx.
pub(super) fn render(name: &str, text: &str, unit: Unit, rows: &[Row]) -> String {
    let cost = |row: &Row| row.cpu_ms_per_1k.unwrap_or(row.value);
    let nginx = rows.iter().find(|row| row.server == "nginx").map(cost);
    let mut rows: Vec<&Row> = rows.iter().collect();
    rows.sort_by(|a, b| cost(a).total_cmp(&cost(b)));
    let mut out = format!("### {name}: {text}\n\n");
    out += &format!("| server | {} | CPU ms/1k | × nginx | spread % | errors |\n", unit.name());
    out += "|---|--:|--:|--:|--:|--:|\n";
    for row in rows {
        let cpu = row.cpu_ms_per_1k.map_or(String::new(), |cpu| format!("{cpu:.2}"));
        let ratio = nginx.map_or(String::new(), |nginx| format!("{:.2}", nginx / cost(row)));
        let value = match row.value < 100.0 {
            true => format!("{:.1}", row.value),
            false => thousands(row.value as u64),
        };
        let Row { server, spread, errors, .. } = row;
        out += &format!("| {server} | {value} | {cpu} | {ratio} | {spread:.0} | {errors} |\n");
    }
    out
}

/// The median, and the spread in percent of it.
pub(super) fn median(values: &mut [f64]) -> (f64, f64) {
    values.sort_by(f64::total_cmp);
    let (Some(first), Some(last)) = (values.first(), values.last()) else { return (0.0, 0.0) };
    let (low, high) = (*first, *last);
    let middle = values[values.len() / 2];
    (middle, if middle > 0.0 { 100.0 * (high - low) / middle } else { 0.0 })
}

fn thousands(value: u64) -> String {
    let digits = value.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}
