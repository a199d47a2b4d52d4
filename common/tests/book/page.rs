//! A page of the book, taken apart.

use std::ops::Range;

use pulldown_cmark::{CodeBlockKind, CowStr, Event, Options, Parser, Tag, TagEnd};

/// What the checks look at. Each comes with the place in the text where it stands.
#[derive(Default)]
pub struct Page {
    /// Where the page lies, from the root of the workspace.
    pub path: String,
    pub text: String,
    pub blocks: Vec<Block>,
    pub links: Vec<(usize, String)>,
    /// What stands between backticks.
    pub codes: Vec<(usize, String)>,
    /// The anchors of the headings.
    pub ids: Vec<String>,
    /// Pictures that say nothing to somebody who does not see them.
    pub silent: Vec<(usize, String)>,
}

/// A fenced block.
pub struct Block {
    pub place: Range<usize>,
    pub language: String,
    pub text: String,
    /// The comment right before it: `<!-- excerpt: ... -->` or `<!-- output: ... -->`.
    pub marker: Option<String>,
}

impl Block {
    /// What a marker stands before that has no block right behind it.
    fn nothing(place: usize, marker: String) -> Block {
        let (language, text) = (String::new(), String::new());
        Block { place: place..place, language, text, marker: Some(marker) }
    }
}

impl Page {
    pub fn new(path: &str, text: String) -> Page {
        let mut page = Page { path: path.into(), ..Page::default() };
        let mut marker = None;
        let mut block: Option<Block> = None;
        let mut heading: Option<String> = None;
        let mut picture: Option<(usize, CowStr, String)> = None;
        let options = Options::ENABLE_TABLES | Options::ENABLE_GFM;
        for (event, place) in Parser::new_ext(&text, options).into_offset_iter() {
            let start = place.start;
            if let Event::Start(tag) = &event {
                if !matches!(tag, Tag::CodeBlock(_) | Tag::HtmlBlock) {
                    page.blocks.extend(marker.take().map(|marker| Block::nothing(start, marker)));
                }
            }
            match event {
                Event::Html(html) => marker = comment(&html).or(marker),
                Event::Start(Tag::CodeBlock(kind)) => {
                    let language = match kind {
                        CodeBlockKind::Fenced(language) => language.to_string(),
                        CodeBlockKind::Indented => String::new(),
                    };
                    let marker = marker.take();
                    block = Some(Block { place, language, text: String::new(), marker });
                }
                Event::End(TagEnd::CodeBlock) => page.blocks.extend(block.take()),
                Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
                Event::End(TagEnd::Heading(_)) => {
                    let id = id(&heading.take().unwrap_or_default(), &page.ids);
                    page.ids.push(id);
                }
                Event::Start(Tag::Image { dest_url, .. }) => {
                    page.links.push((start, dest_url.to_string()));
                    picture = Some((start, dest_url, String::new()));
                }
                Event::End(TagEnd::Image) => {
                    if let Some((start, url, text)) = picture.take() {
                        if text.trim().is_empty() {
                            page.silent.push((start, url.to_string()));
                        }
                    }
                }
                Event::Start(Tag::Link { dest_url, .. }) => {
                    page.links.push((start, dest_url.to_string()));
                }
                Event::Text(words) | Event::Code(words) => {
                    if let Some(block) = &mut block {
                        block.text.push_str(&words);
                    } else if text[start..].starts_with('`') {
                        page.codes.push((start, words.to_string()));
                    }
                    for text in heading.iter_mut().chain(picture.as_mut().map(|(.., text)| text)) {
                        text.push_str(&words);
                    }
                }
                _ => {}
            }
        }
        page.blocks.extend(marker.take().map(|marker| Block::nothing(text.len(), marker)));
        Page { text, ..page }
    }

    /// `docs/pipe.md:12`, for a place in the text.
    pub fn at(&self, place: usize) -> String {
        format!("{}:{}", self.path, self.text[..place].matches('\n').count() + 1)
    }
}

fn comment(html: &str) -> Option<String> {
    let text = html.trim().strip_prefix("<!--")?.strip_suffix("-->")?.trim();
    ["excerpt:", "output:"].iter().any(|kind| text.starts_with(kind)).then(|| text.into())
}

/// The anchor that mdBook and code hosts make of a heading.
fn id(heading: &str, taken: &[String]) -> String {
    let letters = heading.trim().to_lowercase().replace(' ', "-");
    let is_kept = |c: &char| c.is_alphanumeric() || "-_".contains(*c);
    let id: String = letters.chars().filter(is_kept).collect();
    let mut numbered = (1..).map(|number| format!("{id}-{number}"));
    let mut candidate = id.clone();
    while taken.contains(&candidate) {
        candidate = numbered.next().unwrap_or_default();
    }
    candidate
}
