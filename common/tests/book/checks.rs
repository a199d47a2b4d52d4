//! What is checked of the pages.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::page::{Block, Page};
use crate::{excerpt, output};

/// All pages, and where they lie.
pub struct Book {
    root: PathBuf,
    pages: Vec<Page>,
}

/// Something that is wrong: where and what, and how the block there should read, if that is known.
pub struct Problem {
    pub text: String,
    mended: Option<(usize, Range<usize>, String)>,
}

/// The directories whose files are named by their path.
const TOP: [&str; 6] = ["common", "shared-value", "pipe-demo", "queue-demo", "docs", ".ci"];

impl Book {
    /// Reads `docs/*.md` and `README.md` under `root`.
    pub fn read(root: &Path) -> Result<Book, String> {
        let read = |path: &str| fs::read_to_string(root.join(path)).ok();
        let files = fs::read_dir(root.join("docs")).map_err(|error| format!("docs: {error}"))?;
        let names =
            files.flatten().map(|file| format!("docs/{}", file.file_name().to_string_lossy()));
        let mut paths: Vec<_> = names.filter(|path| path.ends_with(".md")).collect();
        paths.sort();
        paths.push("README.md".into());
        let pages = paths.iter().filter_map(|path| Some(Page::new(path, read(path)?))).collect();
        Ok(Book { root: root.into(), pages })
    }

    /// Every listing is the text of a source; Python is quoted by the line.
    pub fn listings(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        for (number, page, block) in self.blocks() {
            let marker = block.marker.as_deref().unwrap_or_default();
            let problem = match (marker.strip_prefix("excerpt: "), &*block.language) {
                (Some(name), "rust" | "toml") => match excerpt::read(&self.root, name) {
                    Ok(source) if source == block.text => continue,
                    Ok(source) => {
                        let text = format!("this is not what {name} says");
                        problems.push(Problem::mendable(number, page, block, &text, source));
                        continue;
                    }
                    Err(problem) => problem,
                },
                (Some(_), _) => "behind the marker of a listing stands none".into(),
                (None, "rust") => "no marker names the source of this listing".into(),
                (None, "python") if block.text.lines().count() > 2 => {
                    "more Python than two lines: the article's listings are its author's".into()
                }
                (None, _) => continue,
            };
            problems.push(Problem::at(page, block.place.start, &problem));
        }
        problems
    }

    /// Every command runs, once, and prints what the page shows.
    pub fn commands(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut runs = BTreeMap::new();
        let mut run = |command: &str| -> Result<String, String> {
            let run = || output::run(&self.root, command);
            runs.entry(command.to_string()).or_insert_with(run).clone()
        };
        for (number, page, block) in self.blocks() {
            let marker = block.marker.as_deref().unwrap_or_default();
            let Some(marker) = marker.strip_prefix("output: ") else {
                if block.language == "text" {
                    let problem = "no marker names the command that prints this";
                    problems.push(Problem::at(page, block.place.start, problem));
                }
                continue;
            };
            if block.language != "text" {
                let problem = "behind the marker of an output stands none";
                problems.push(Problem::at(page, block.place.start, problem));
                continue;
            }
            let (command, varies) = marker.split_once(';').unwrap_or((marker, ""));
            let compared = run(command.trim()).and_then(|printed| {
                let differs =
                    output::normal(&printed, varies)? != output::normal(&block.text, varies)?;
                Ok(differs.then_some(printed))
            });
            match compared {
                Ok(None) => {}
                Ok(Some(printed)) => {
                    let text = format!("`{command}` prints something else:\n{printed}");
                    problems.push(Problem::mendable(number, page, block, &text, printed));
                }
                Err(problem) => {
                    let text = format!("`{command}`: {problem}");
                    problems.push(Problem::at(page, block.place.start, &text));
                }
            }
        }
        for page in &self.pages {
            for (place, command) in page.commands() {
                let problem =
                    if command.trim_start_matches("TIMELINE=run.svg ").starts_with("cargo run -p ")
                    {
                        run(command).err()
                    } else if self.gate_runs(command) {
                        None
                    } else {
                        Some(
                        "nobody tries whether this works: neither is it `cargo run -p`, nor in .ci"
                            .into(),
                    )
                    };
                let text = |problem| format!("`{command}`: {problem}");
                problems.extend(problem.map(|problem| Problem::at(page, place, &text(problem))));
            }
        }
        problems
    }

    /// Whether a script in `.ci` runs `command`, or is it.
    fn gate_runs(&self, command: &str) -> bool {
        let command = &command.replace(" --open", ""); // there a browser is missing
        let scripts = fs::read_dir(self.root.join(".ci")).into_iter().flatten().flatten();
        let texts = scripts.filter_map(|file| fs::read_to_string(file.path()).ok());
        let runs = |text: String| text.lines().any(|line| line.contains(command));
        let program = command.split_whitespace().next().unwrap_or_default();
        texts.into_iter().any(runs)
            || program.starts_with(".ci/") && self.root.join(program).exists()
    }

    /// Every page is in the summary; every link, heading and path that is named exists; every picture
    /// has an alternative text.
    pub fn links(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        for page in &self.pages {
            let mut found = |place, text: &str| problems.push(Problem::at(page, place, text));
            if !self.is_in_summary(page) {
                found(0, "docs/SUMMARY.md lacks this page");
            }
            for (place, link) in &page.links {
                if let Some(problem) = self.broken(page, link) {
                    found(*place, &format!("{link}: {problem}"));
                }
            }
            for (place, code) in &page.codes {
                let top = code.split_once('/').map_or("", |(top, _)| top);
                if TOP.contains(&top) && !code.contains(' ') && !self.root.join(code).exists() {
                    found(*place, &format!("{code}: there is no such path"));
                }
            }
            for (place, picture) in &page.silent {
                found(*place, &format!("{picture}: no alternative text"));
            }
        }
        problems
    }

    fn page(&self, path: &str) -> Option<&Page> {
        self.pages.iter().find(|page| page.path == path)
    }

    fn is_in_summary(&self, page: &Page) -> bool {
        // The README is no page of the book.
        let Some(name) = page.path.strip_prefix("docs/") else { return true };
        let summary = self.page("docs/SUMMARY.md");
        name == "SUMMARY.md"
            || summary.is_some_and(|summary| summary.links.iter().any(|(_, link)| link == name))
    }

    /// What is wrong with `link` on the page `from`. Nobody looks at links to other places.
    fn broken(&self, from: &Page, link: &str) -> Option<&'static str> {
        if link.contains("://") {
            return None;
        }
        let (file, heading) = link.split_once('#').unwrap_or((link, ""));
        let directory = Path::new(&from.path).parent().unwrap_or(Path::new(""));
        let path = if file.is_empty() { PathBuf::from(&from.path) } else { directory.join(file) };
        let to = self.page(&path.to_string_lossy());
        if to.is_none() && !self.root.join(&path).exists() {
            Some("there is no such file")
        } else if !heading.is_empty() && !to.is_some_and(|to| to.ids.iter().any(|id| id == heading))
        {
            Some("there is no such heading")
        } else if file.starts_with("..") {
            Some("it leads out of the book: name the path instead")
        } else {
            None
        }
    }

    /// Writes listings and outputs anew; an error where something else is wrong.
    pub fn update(&self) -> Result<(), String> {
        let mut problems = self.listings();
        problems.extend(self.commands());
        let mut texts: Vec<_> = self.pages.iter().map(|page| page.text.clone()).collect();
        let mut blocks: Vec<_> = problems.iter().filter_map(|p| p.mended.as_ref()).collect();
        // From the back, so that no place moves before its turn.
        blocks.sort_by_key(|(_, place, _)| std::cmp::Reverse(place.start));
        for (number, place, block) in blocks {
            texts[*number].replace_range(place.clone(), block);
        }
        for (page, text) in self.pages.iter().zip(texts) {
            if text != page.text {
                fs::write(self.root.join(&page.path), text).map_err(|error| error.to_string())?;
            }
        }
        let left = problems.iter().filter(|problem| problem.mended.is_none());
        let left: String = left.map(|problem| format!("{}\n", problem.text)).collect();
        if left.is_empty() { Ok(()) } else { Err(left) }
    }

    fn blocks(&self) -> impl Iterator<Item = (usize, &Page, &Block)> {
        let pages = self.pages.iter().enumerate();
        pages.flat_map(|(number, page)| page.blocks.iter().map(move |block| (number, page, block)))
    }
}

impl Page {
    /// What a reader is told to type: the lines of `sh` blocks, and what looks like it in the text.
    fn commands(&self) -> impl Iterator<Item = (usize, &str)> {
        let typed = |code: &str| ["cargo ", "mdbook ", ".ci/"].iter().any(|c| code.starts_with(c));
        let inline = self.codes.iter().filter(move |(_, code)| typed(code));
        let blocks = self.blocks.iter().filter(|block| block.language == "sh");
        blocks
            .flat_map(|block| block.text.lines().map(|line| (block.place.start, line)))
            .chain(inline.map(|(place, code)| (*place, code.as_str())))
    }
}

impl Problem {
    fn at(page: &Page, place: usize, text: &str) -> Problem {
        Problem { text: format!("{}: {text}", page.at(place)), mended: None }
    }

    fn mendable(number: usize, page: &Page, block: &Block, text: &str, right: String) -> Problem {
        let fenced = format!("```{}\n{right}```", block.language);
        let mended = Some((number, block.place.clone(), fenced));
        Problem { mended, ..Problem::at(page, block.place.start, text) }
    }
}
