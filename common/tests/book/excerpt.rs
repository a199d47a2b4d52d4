//! The part of a source that a marker names.
//!
//! `PATH` is the whole file. `PATH#name` is what stands between the lines `// ANCHOR: name` and
//! `// ANCHOR_END: name`. An anchor with a blank in it needs no such lines, so that a listing stays
//! as its reader should see it: `PATH#fn main` begins with the one line that begins so, and ends
//! with the next line that stands as far to the right and begins with `}`; for
//! `PATH#fn main ... let count` with one that begins with `let count`, however far to the right.

use std::path::Path;

const START: &str = "// ANCHOR: ";
const END: &str = "// ANCHOR_END: ";

/// Reads it, without the indentation that all of its lines share.
pub fn read(root: &Path, name: &str) -> Result<String, String> {
    let (path, anchor) = name.split_once('#').map_or((name, None), |(p, a)| (p, Some(a.trim())));
    let text = std::fs::read_to_string(root.join(path.trim()))
        .map_err(|error| format!("{path}: {error}"))?;
    let lines: Vec<&str> = text.lines().collect();
    let part = match anchor {
        None => &lines[..],
        Some(anchor) => part(&lines, anchor).map_err(|problem| format!("{name}: {problem}"))?,
    };
    let is_anchor =
        |line: &&&str| [START, END].iter().any(|word| line.trim_start().starts_with(word));
    let lines: Vec<&str> = part.iter().filter(|line| !is_anchor(line)).copied().collect();
    let indents = lines.iter().filter(|line| !line.is_empty()).map(|line| indent(line));
    let shared = indents.min().unwrap_or(0);
    Ok(lines.iter().map(|line| format!("{}\n", line.get(shared..).unwrap_or(""))).collect())
}

fn part<'a>(lines: &'a [&'a str], anchor: &str) -> Result<&'a [&'a str], String> {
    let is_comment = !anchor.contains(' ');
    let (first, last) = match anchor.split_once(" ... ") {
        _ if is_comment => (format!("{START}{anchor}"), format!("{END}{anchor}")),
        Some((first, last)) => (first.into(), last.into()),
        None => (anchor.into(), "}".into()),
    };
    let begins = |line: &str, word: &str| {
        let line = line.trim_start();
        if is_comment { line.trim_end() == word } else { line.starts_with(word) }
    };
    let mut starts = (0..lines.len()).filter(|&index| begins(lines[index], &first));
    let start = starts.next().ok_or("no line begins so")?;
    if starts.next().is_some() {
        return Err("more than one line begins so".into());
    }
    let ends =
        |line: &str| begins(line, &last) && (last != "}" || indent(line) == indent(lines[start]));
    let count = lines[start..].iter().position(|line| ends(line));
    let end = start + count.ok_or("it begins, and never ends")?;
    Ok(if is_comment { &lines[start + 1..end] } else { &lines[start..=end] })
}

fn indent(line: &str) -> usize {
    line.len() - line.trim_start().len()
}
