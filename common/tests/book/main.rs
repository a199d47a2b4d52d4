//! The book, `docs/`, and the README, held against the code: every listing is what the source says,
//! every command runs and prints what the page shows, every link leads somewhere.
//!
//! A listing stands under `<!-- excerpt: PATH#ANCHOR -->` (see `excerpt.rs`), an output under
//! `<!-- output: COMMAND; what varies -->` (see `output.rs`). Where the code has changed on purpose,
//! `UPDATE_BOOK=1 cargo test -p common --test book` writes both anew.

mod checks;
mod excerpt;
mod output;
mod page;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use checks::{Book, Problem};

type Result = std::result::Result<(), String>;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Whether listings and outputs are to be written anew.
fn is_update() -> bool {
    std::env::var_os("UPDATE_BOOK").is_some()
}

fn check(problems: Vec<Problem>) -> Result {
    let texts: Vec<_> = problems.into_iter().map(|problem| problem.text).collect();
    if texts.is_empty() { Ok(()) } else { Err(texts.join("\n")) }
}

#[test]
fn every_listing_is_what_the_source_says() -> Result {
    if is_update() {
        return Ok(()); // the next test, at this moment, writes the pages
    }
    check(Book::read(&root())?.listings())
}

#[test]
fn every_command_runs_and_prints_what_the_page_shows() -> Result {
    output::build(&root())?;
    let book = Book::read(&root())?;
    if is_update() { book.update() } else { check(book.commands()) }
}

#[test]
fn every_page_is_in_the_summary_and_every_link_and_path_leads_somewhere() -> Result {
    check(Book::read(&root())?.links())
}

// The tests of the checks themselves. Each makes a small book, and names what must be found in it.

const SOURCE: &str = "\
fn one() {
    // ANCHOR: body
    let one = 1;

    print(one);
    // ANCHOR_END: body
}
";
const LISTING: &str = "<!-- excerpt: one.rs#body -->\n```rust\nlet one = 1;\n\nprint(one);\n```\n";
const OUTPUT: &str = "<!-- output: cargo run -p common --example zombie -->\n```text\n\
                      ended:  Z\nkilled: Z\njoined: gone\n```\n";

/// A book of one page and the summary, beside the source `one.rs`.
fn small_book(page: &str, source: &str) -> std::result::Result<(Book, PathBuf), String> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let name = format!("small-book-{}-{}", std::process::id(), COUNT.fetch_add(1, Relaxed));
    let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let write = || {
        fs::create_dir_all(root.join("docs"))?;
        fs::create_dir_all(root.join(".ci"))?;
        fs::write(root.join(".ci/run"), "cargo test\n")?;
        fs::write(root.join("one.rs"), source)?;
        fs::write(root.join("docs/SUMMARY.md"), "[Page](page.md)\n")?;
        fs::write(root.join("docs/page.md"), page)
    };
    write().map_err(|error| error.to_string())?;
    Ok((Book::read(&root)?, root))
}

/// Checks that `which` finds one problem for each of `expected`, and that its text contains that.
fn finds(
    which: fn(&Book) -> Vec<Problem>,
    (page, source): (&str, &str),
    expected: &[&str],
) -> Result {
    let (book, root) = small_book(page, source)?;
    let found: Vec<_> = which(&book).into_iter().map(|problem| problem.text).collect();
    fs::remove_dir_all(&root).map_err(|error| error.to_string())?;
    let is_found = |(text, part): (&String, &&str)| text.contains(*part);
    if found.len() == expected.len() && found.iter().zip(expected).all(is_found) {
        return Ok(());
    }
    Err(format!("found {found:#?}, expected {expected:#?}"))
}

#[test]
fn a_right_page_has_no_problem() -> Result {
    finds(Book::listings, (LISTING, SOURCE), &[])?;
    finds(
        Book::listings,
        (&LISTING.replace("one.rs#body", "one.rs#let one ... print"), SOURCE),
        &[],
    )?;
    let item = format!(
        "<!-- excerpt: one.rs#fn one -->\n```rust\n{}```\n",
        SOURCE.replace("    // ANCHOR: body\n", "").replace("    // ANCHOR_END: body\n", "")
    );
    finds(Book::listings, (&item, SOURCE), &[])?;
    finds(Book::commands, (OUTPUT, SOURCE), &[])?;
    let links = "# A heading, `twice`\n# A heading, `twice`\n[a](#a-heading-twice-1) [b](page.md) `.ci/run`";
    finds(Book::links, (links, SOURCE), &[])
}

#[test]
fn a_missing_file_is_found() -> Result {
    finds(
        Book::listings,
        (&LISTING.replace("one.rs", "two.rs"), SOURCE),
        &["page.md:2: two.rs: No such"],
    )
}

#[test]
fn a_missing_anchor_is_found() -> Result {
    finds(Book::listings, (LISTING, "fn one() {}\n"), &["one.rs#body: no line begins so"])?;
    let item = LISTING.replace("#body", "#fn two");
    finds(Book::listings, (&item, SOURCE), &["one.rs#fn two: no line begins so"])
}

#[test]
fn a_duplicate_anchor_is_found() -> Result {
    let twice = format!("{SOURCE}{SOURCE}");
    finds(Book::listings, (LISTING, &twice), &["one.rs#body: more than one line"])?;
    let item = LISTING.replace("#body", "#fn one");
    finds(Book::listings, (&item, &twice), &["one.rs#fn one: more than one line"])
}

#[test]
fn an_unclosed_anchor_is_found() -> Result {
    let open = SOURCE.replace("_END: body", "_END: another");
    finds(Book::listings, (LISTING, &open), &["one.rs#body: it begins, and never ends"])?;
    let item = LISTING.replace("#body", "#fn one");
    let open = SOURCE.replace('}', " }");
    finds(Book::listings, (&item, &open), &["one.rs#fn one: it begins, and never ends"])
}

#[test]
fn one_changed_character_is_found_in_a_listing() -> Result {
    let differs = ["docs/page.md:2: this is not what one.rs#body says"];
    finds(Book::listings, (LISTING, &SOURCE.replace("= 1", "= 2")), &differs)?;
    finds(Book::listings, (&LISTING.replace("one);", "one) ;"), SOURCE), &differs)
}

#[test]
fn one_changed_character_is_found_in_an_output() -> Result {
    finds(Book::commands, (&OUTPUT.replace("gone", "done"), SOURCE), &["prints something else"])
}

#[test]
fn what_varies_from_run_to_run_is_no_difference() -> Result {
    let same = |one, other, varies| output::normal(one, varies) == output::normal(other, varies);
    for (one, other, varies) in [
        ("process 'a' (pid 7) ended", "process 'a' (pid 81) ended", ""),
        ("Process ID: 7, Process Name: 1", "Process ID: 8, Process Name: 1", ""),
        ("--- 0.5 seconds ---", "--- 0.000625 seconds ---", ""),
        ("at 0x7f is 1, at 0x7f", "at 0xab is 1, at 0xab", ""),
        ("a  7\nb 10", "a 12\nb  9", "numbers vary"),
        ("a\nb", "b\na", "order varies"),
        ("round 1\nround 2", "round 2", "last line"),
    ] {
        if !same(one, other, varies) || (!varies.is_empty() && same(one, other, "")) {
            return Err(format!("{varies}: {one}, {other}"));
        }
    }
    for (one, other, varies) in [
        ("at 0x7f, at 0x7f", "at 0x7f, at 0x7e", ""),
        ("Process Name: 1", "Process Name: 2", ""),
        ("7 rounds", "7 round", "numbers vary"),
        ("a\nb", "b\nb", "order varies"),
        ("round 1", "round 2", "last line"),
    ] {
        if same(one, other, varies) {
            return Err(format!("{varies}: {one} counts as {other}"));
        }
    }
    finds(
        Book::commands,
        (&OUTPUT.replace("zombie", "zombie; luck"), SOURCE),
        &["'luck' is nothing"],
    )
}

#[test]
fn a_listing_or_an_output_that_nobody_compares_is_found() -> Result {
    let listing = &LISTING[LISTING.find("```").unwrap_or(0)..];
    finds(Book::listings, (listing, SOURCE), &["no marker names the source"])?;
    let apart = LISTING.replace("-->\n", "-->\n\nText between.\n\n");
    finds(Book::listings, (&apart, SOURCE), &["stands none", "no marker names the source"])?;
    let output = &OUTPUT[OUTPUT.find("```").unwrap_or(0)..];
    finds(Book::commands, (output, SOURCE), &["no marker names the command"])?;
    let alone = OUTPUT.split_once('\n').map_or("", |(marker, _)| marker);
    finds(Book::commands, (alone, SOURCE), &["behind the marker of an output stands none"])?;
    finds(Book::listings, ("```python\na\nb\nc\n```\n", SOURCE), &["more Python than two lines"])
}

#[test]
fn a_command_that_fails_or_that_nobody_runs_is_found() -> Result {
    let page = "`cargo test`\n```sh\ncargo run -p no-such\ncargo frobnicate\n```\n";
    finds(Book::commands, (page, SOURCE), &["no such program", "`cargo frobnicate`: nobody"])?;
    finds(Book::commands, ("`cargo run -p pipe-demo abc`", SOURCE), &["exit status: 2"])
}

#[test]
fn a_page_that_the_summary_lacks_is_found() -> Result {
    let (book, root) = small_book("# Page\n", SOURCE)?;
    fs::write(root.join("docs/other.md"), "# Other\n").map_err(|error| error.to_string())?;
    let with_other = Book::read(&root)?;
    fs::remove_dir_all(&root).map_err(|error| error.to_string())?;
    let found: Vec<_> = with_other.links().into_iter().map(|problem| problem.text).collect();
    if book.links().is_empty() && found == ["docs/other.md:1: docs/SUMMARY.md lacks this page"] {
        return Ok(());
    }
    Err(format!("found {found:?}"))
}

#[test]
fn a_link_a_heading_or_a_path_that_is_not_there_is_found() -> Result {
    let page = "# Page\n[a](other.md) [b](page.md#pag) [c](../one.rs) ![](page.md) `docs/no.md`\n";
    let found = [
        "other.md: there is no such file",
        "#pag: there is no such heading",
        "it leads out of the book",
        "docs/no.md: there is no such path",
        "no alternative text",
    ];
    finds(Book::links, (page, SOURCE), &found)
}

#[test]
fn an_update_writes_listings_and_outputs_anew_and_nothing_else() -> Result {
    let right = format!("# Page\n\n{LISTING}\nBetween.\n\n{OUTPUT}\n{LISTING}\nEnd.\n");
    let wrong = right.replace("= 1;\n", "= 2;\nmore\n").replace("joined: gone\n", "");
    let (book, root) = small_book(&wrong, SOURCE)?;
    book.update()?;
    let mended = fs::read_to_string(root.join("docs/page.md"));
    fs::remove_dir_all(&root).map_err(|error| error.to_string())?;
    if mended.as_ref().is_ok_and(|mended| *mended == right) {
        return Ok(());
    }
    Err(format!("{mended:?}"))
}
