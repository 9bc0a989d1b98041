//! What a terminal shows, as a picture for the manual: SVG, so that it is small and its changes can be read.

use std::{fmt::Write as _, fs, path::Path};

use anyhow::Context as _;

use super::{
    DOMAIN, FORMER, Lab, NAME_SERVERS, scenario, settings, settings_without_ddns, site,
    world::SOUND,
};

const CHAR_WIDTH: f64 = 8.4;
const LINE_HEIGHT: usize = 20;
const MARGIN: usize = 16;
/// What no line of the program's output is longer than, without being broken.
const COLUMNS_MAX: usize = 110;

/// A piece of text in one colour.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Piece {
    color: &'static str,
    text: String,
}

/// Draws the manual's pictures of a terminal, from what the program prints in the lab.
///
/// # Errors
/// When the lab does not start, or the folder cannot be written to.
pub fn draw(folder: &Path) -> anyhow::Result<()> {
    let mut lab = Lab::start(SOUND)?;
    scenario::update(&lab, &format!("delete {DOMAIN} A"))?;
    scenario::update(&lab, &format!("add {DOMAIN} 60 A {FORMER}"))?;
    for server in NAME_SERVERS {
        let at = format!("@{server}");
        lab.wait("both name servers to lead elsewhere", |lab| {
            let answer = lab.run("internet", "dig", &["+short", &at, DOMAIN, "A"])?;
            Ok(answer.stdout.trim_ascii() == FORMER.as_bytes())
        })?;
    }
    let settings_of_doctor = settings_without_ddns();
    let examine = ["--color", "always", "doctor", DOMAIN, "--config", &settings_of_doctor];
    let doctor = lab.hearth(&examine)?.output()?;
    save(folder, "doctor", &format!("hearth doctor {DOMAIN}"), &doctor.stdout)?;
    site::start(&mut lab, &settings(), &[])?;
    site::wait_until_well(&mut lab)?;
    // The same list as `up` shows, by the same hand.
    let status = lab.hearth(&["--color", "always", "status"])?.output()?;
    save(folder, "up-checklist", &format!("hearth up {DOMAIN} ./site"), &status.stdout)?;
    site::stop(&mut lab)
}

fn save(folder: &Path, name: &str, command: &str, printed: &[u8]) -> anyhow::Result<()> {
    let shown = format!("$ sudo {command}\n{}", String::from_utf8_lossy(printed));
    let path = folder.join(name).with_extension("svg");
    fs::write(&path, svg(&shown)).with_context(|| path.display().to_string())
}

/// A picture of what a program printed, colours included.
fn svg(printed: &str) -> String {
    let lines: Vec<_> = printed.trim_end().lines().flat_map(|line| broken(&pieces(line))).collect();
    let width = (COLUMNS_MAX as f64 * CHAR_WIDTH) as usize + 2 * MARGIN;
    let height = lines.len() * LINE_HEIGHT + 2 * MARGIN;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\">\n\
         <rect width=\"{width}\" height=\"{height}\" rx=\"8\" fill=\"#1c1f24\"/>\n\
         <g font-family=\"ui-monospace, 'DejaVu Sans Mono', monospace\" font-size=\"14\" xml:space=\"preserve\">\n"
    );
    for (at, line) in lines.iter().enumerate() {
        let y = MARGIN + at * LINE_HEIGHT + 14;
        // Writing to a String cannot fail.
        let _ = write!(svg, "<text x=\"{MARGIN}\" y=\"{y}\">");
        for Piece { color, text } in line {
            let _ = write!(svg, "<tspan fill=\"{color}\">{}</tspan>", escaped(text));
        }
        svg.push_str("</text>\n");
    }
    svg + "</g>\n</svg>\n"
}

/// A line by colour. Of the terminal's codes only those for colours mean something here.
fn pieces(line: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut color = PLAIN;
    for (at, part) in line.split("\x1b[").enumerate() {
        let text = match (at, part.split_once('m')) {
            (0, _) | (_, None) => part,
            (_, Some((code, rest))) => {
                color = color_of(code);
                rest
            }
        };
        if !text.is_empty() {
            pieces.push(Piece { color, text: text.to_owned() });
        }
    }
    pieces
}

/// The lines that a terminal makes of one that is too long.
fn broken(line: &[Piece]) -> Vec<Vec<Piece>> {
    let mut lines = vec![Vec::new()];
    let mut column = 0;
    for Piece { color, text } in line {
        let mut rest = text.as_str();
        while !rest.is_empty() {
            if column == COLUMNS_MAX {
                lines.push(Vec::new());
                column = 0;
            }
            let room = COLUMNS_MAX - column;
            let end = rest.char_indices().nth(room).map_or(rest.len(), |(at, _)| at);
            let (now, later) = rest.split_at(end);
            column += now.chars().count();
            if let Some(last) = lines.last_mut() {
                last.push(Piece { color, text: now.to_owned() });
            }
            rest = later;
        }
    }
    lines
}

fn color_of(code: &str) -> &'static str {
    match code {
        "2" => "#7f8790",
        "31" | "1;31" => "#ff7b72",
        "32" => "#7ee787",
        "33" => "#e3b341",
        "36" => "#76e3ea",
        _ => PLAIN,
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

const PLAIN: &str = "#e6edf3";

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(color: &'static str, text: &str) -> Piece {
        Piece { color, text: text.to_owned() }
    }

    #[test]
    fn colours_and_lines() {
        let line = pieces("  \x1b[32m✓\x1b[0m listen");
        assert_eq!(line, [piece(PLAIN, "  "), piece("#7ee787", "✓"), piece(PLAIN, " listen")]);
        let long = format!("{}é{}", "x".repeat(COLUMNS_MAX - 1), "y".repeat(3));
        let lines = broken(&pieces(&long));
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[1], [piece(PLAIN, "yyy")]);
        let picture = svg("a <b> & c\n\x1b[31mred\x1b[0m\n");
        assert!(picture.contains("a &lt;b&gt; &amp; c") && picture.contains("\"#ff7b72\">red<"));
        assert_eq!(broken(&[]).len(), 1, "an empty line is a line");
    }
}
