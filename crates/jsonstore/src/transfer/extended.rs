//! MongoDB's extended JSON (version 2, and what mongoexport wrote before): to plain JSON and back.

use crate::{
    backup::format_time,
    error::{DocumentError, Result},
    jb1::{self, Kind},
};

/// Appends a document as plain JSON text.
pub(super) fn simplify(value: &[u8], out: &mut Vec<u8>) -> Result<()> {
    walk(value, out, true).ok_or_else(|| DocumentError::Malformed.into())
}

/// Appends a document with its numbers in canonical form.
pub(super) fn canonical(value: &[u8], out: &mut Vec<u8>) -> Result<()> {
    walk(value, out, false).ok_or_else(|| DocumentError::Malformed.into())
}

fn walk(value: &[u8], out: &mut Vec<u8>, simplifies: bool) -> Option<()> {
    match jb1::kind(value)? {
        Kind::Object => {
            if simplifies && let Some(plain) = plain(value) {
                out.extend_from_slice(plain.as_bytes());
                return Some(());
            }
            out.push(b'{');
            for (i, member) in jb1::members(value)?.enumerate() {
                let (name, item) = member?;
                if i > 0 {
                    out.push(b',');
                }
                out.extend_from_slice(quoted(&name.unescaped()?).as_bytes());
                out.push(b':');
                walk(item, out, simplifies)?;
            }
            out.push(b'}');
        }
        Kind::Array => {
            out.push(b'[');
            for (i, item) in jb1::items(value)?.enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                walk(item?, out, simplifies)?;
            }
            out.push(b']');
        }
        kind @ (Kind::Integer | Kind::Decimal) if !simplifies => {
            let text = text_of(value)?;
            let name = number_type(kind, &text);
            out.extend_from_slice(format!("{{\"{name}\":\"{text}\"}}").as_bytes());
        }
        _ => jb1::print(value, out).ok()?,
    }
    Some(())
}

/// What stands for a typed value, as JSON text; `None` if this is none, or has no plain form.
fn plain(object: &[u8]) -> Option<String> {
    let mut members = jb1::members(object)?;
    let (name, value) = members.next()??;
    let name = name.unescaped()?;
    if !name.starts_with('$') || members.next().is_some() {
        return None;
    }
    let string = || jb1::string(value).map(std::borrow::Cow::into_owned);
    match &*name {
        "$oid" | "$uuid" | "$symbol" => string().map(|text| quoted(&text)),
        "$numberInt" | "$numberLong" => {
            let text = string().or_else(|| text_of(value))?;
            text.parse::<i64>().ok().map(|number| number.to_string())
        }
        "$numberDouble" | "$numberDecimal" => {
            let text = string().or_else(|| text_of(value))?;
            // Infinity and NaN are no numbers in JSON.
            Some(if is_number(&text) { text } else { quoted(&text) })
        }
        "$date" => date(value),
        "$undefined" => Some("null".to_owned()),
        _ => None,
    }
}

fn date(value: &[u8]) -> Option<String> {
    if let Some(text) = jb1::string(value) {
        return Some(quoted(&text));
    }
    let ms = match jb1::kind(value)? {
        Kind::Object => plain(value)?.parse::<i64>().ok()?,
        _ => i64::try_from(jb1::integer(value)?).ok()?,
    };
    // Before the year 0 and after 9999 there is no RFC 3339.
    (-62_167_219_200_000..253_402_300_800_000).contains(&ms).then(|| quoted(&format_time(ms)))
}

/// The type that keeps a number exactly.
fn number_type(kind: Kind, text: &str) -> &'static str {
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    match kind {
        Kind::Integer if text.parse::<i32>().is_ok() => "$numberInt",
        Kind::Integer if text.parse::<i64>().is_ok() => "$numberLong",
        // Up to 15 digits survive a double; up to 17 do if they are its shortest form.
        _ if digits <= 15 || text.parse::<f64>().is_ok_and(|f| f.to_string() == text) => {
            "$numberDouble"
        }
        _ => "$numberDecimal",
    }
}

fn text_of(value: &[u8]) -> Option<String> {
    let mut out = Vec::new();
    jb1::print(value, &mut out).ok()?;
    String::from_utf8(out).ok()
}

/// True if the text is a number as JSON writes it.
pub(super) fn is_number(text: &str) -> bool {
    let starts = text.bytes().next().is_some_and(|b| b == b'-' || b.is_ascii_digit());
    let limits = jb1::Limits { bytes_max: 4096, depth_max: 1 };
    starts && jb1::parse(text.as_bytes(), &limits).is_ok() && !text.ends_with(char::is_whitespace)
}

/// A string as JSON text.
pub(super) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn convert(text: &str, act: fn(&[u8], &mut Vec<u8>) -> Result<()>) -> String {
        let value = jb1::parse(text.as_bytes(), &jb1::Limits::default()).unwrap();
        let mut out = Vec::new();
        act(&value, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    /// The forms of the specification of MongoDB Extended JSON v2, and of mongoexport before 4.2.
    #[test]
    fn typed_values_become_plain() {
        for (typed, want) in [
            (r#"{"$oid":"507f1f77bcf86cd799439011"}"#, r#""507f1f77bcf86cd799439011""#),
            (r#"{"$numberInt":"-42"}"#, "-42"),
            (r#"{"$numberLong":"9223372036854775807"}"#, "9223372036854775807"),
            (r#"{"$numberLong":5}"#, "5"),
            (r#"{"$numberDouble":"1.50"}"#, "1.50"),
            (r#"{"$numberDouble":"Infinity"}"#, r#""Infinity""#),
            (
                r#"{"$numberDecimal":"0.1000000000000000000000000000000001"}"#,
                "0.1000000000000000000000000000000001",
            ),
            (r#"{"$numberDecimal":"NaN"}"#, r#""NaN""#),
            (r#"{"$date":{"$numberLong":"1565546054692"}}"#, r#""2019-08-11T17:54:14.692Z""#),
            (r#"{"$date":1565546054692}"#, r#""2019-08-11T17:54:14.692Z""#),
            (r#"{"$date":{"$numberLong":"-1"}}"#, r#""1969-12-31T23:59:59.999Z""#),
            (r#"{"$date":"2019-08-11T17:54:14.692Z"}"#, r#""2019-08-11T17:54:14.692Z""#),
            (
                r#"{"$uuid":"3b241101-e2bb-4255-8caf-4136c566a962"}"#,
                r#""3b241101-e2bb-4255-8caf-4136c566a962""#,
            ),
            (r#"{"$symbol":"s"}"#, r#""s""#),
            (r#"{"$undefined":true}"#, "null"),
            // No plain form: left as it is.
            (
                r#"{"$binary":{"base64":"aGk=","subType":"00"}}"#,
                r#"{"$binary":{"base64":"aGk=","subType":"00"}}"#,
            ),
            (r#"{"$timestamp":{"t":42,"i":1}}"#, r#"{"$timestamp":{"t":42,"i":1}}"#),
            (r#"{"$minKey":1}"#, r#"{"$minKey":1}"#),
            (r#"{"$numberLong":"no"}"#, r#"{"$numberLong":"no"}"#),
            (r#"{"$oid":"x","more":1}"#, r#"{"$oid":"x","more":1}"#),
            (r#"{"$date":{"$numberLong":"9999999999999999"}}"#, r#"{"$date":9999999999999999}"#),
            ("{}", "{}"),
        ] {
            let document = format!(r#"{{"a":[{typed}],"b\"":{{"c":{typed}}}}}"#);
            let plain = format!(r#"{{"a":[{want}],"b\"":{{"c":{want}}}}}"#);
            assert_eq!(convert(&document, simplify), plain);
        }
    }

    #[test]
    fn numbers_keep_their_types_and_come_back() {
        for (text, name) in [
            ("0", "$numberInt"),
            ("-2147483648", "$numberInt"),
            ("2147483648", "$numberLong"),
            ("1.5", "$numberDouble"),
            ("1e400", "$numberDouble"),
            ("18446744073709551615", "$numberDecimal"),
            ("0.1000000000000000000000000000000001", "$numberDecimal"),
        ] {
            let document = format!(r#"{{"n":{text},"s":"x","l":[true,null]}}"#);
            let typed = convert(&document, canonical);
            let want = format!(r#"{{"n":{{"{name}":"{text}"}},"s":"x","l":[true,null]}}"#);
            assert_eq!(typed, want);
            assert_eq!(convert(&typed, simplify), document);
        }
    }
}
