//! For the maintainers: every starter builds without warnings and shows its declared symptom, every
//! solution passes, and every tempting fix fails with the symptom it deserves.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;

use anyhow::{Context, Result, ensure};
use exercise_kit::check::{EXERCISES, Exercise, Program, root};

fork_harness::tests! {
    the_tests_name_every_exercise,
    every_readme_has_what_a_student_needs,
    the_book_lists_every_exercise_and_every_symptom,
    what_cannot_be_built_is_a_symptom,
    zombie,
    lost_update,
    slow_lock,
    tennis,
    start_together,
    join_before_drain,
    one_sentinel,
    missing_end_of_file,
    torn_messages,
    killed_holder,
    worker_dies,
    imap_in_order;
    long: every_solution_passes_50_times_with_all_processors_loaded,
    every_symptom_shows_10_times_with_all_processors_loaded,
}

macro_rules! exercises {
    ($($name:ident)*) => {
        const NAMES: &[&str] = &[$(stringify!($name)),*];
        $(fn $name() -> Result<()> {
            three_programs(stringify!($name))
        })*
    };
}
exercises!(zombie lost_update slow_lock tennis start_together join_before_drain one_sentinel
    missing_end_of_file torn_messages killed_holder worker_dies imap_in_order);

/// Checks the three programs of the exercise whose name is this, but for the hyphens.
fn three_programs(name: &str) -> Result<()> {
    let name = name.replace('_', "-");
    let exercise = EXERCISES.iter().find(|exercise| exercise.name == name).context(name)?;
    [Program::Starter, Program::Solution, Program::Tempting]
        .into_iter()
        .try_for_each(|program| shows_its_symptom(exercise, program, 1))
}

/// Checks that a starter or a tempting fix shows its symptom, and a solution none, so many times.
fn shows_its_symptom(exercise: &Exercise, program: Program, times: u32) -> Result<()> {
    let [starter, tempting] = exercise.symptoms.map(Some);
    let symptom = match program {
        Program::Starter => starter,
        Program::Solution => None,
        Program::Tempting => tempting,
    };
    let (path, said) = exercise.build(program)?;
    ensure!(said.is_empty(), "{program:?}: the compiler says {said}");
    let path = path.context("not built")?;
    for time in 1..=times {
        let verdict = exercise.verdict(&path)?;
        let found = verdict.as_ref().err().map(|symptom| symptom.name);
        let name = exercise.name;
        ensure!(found == symptom, "{name} {program:?}, run {time}: {verdict:?}, not {symptom:?}");
    }
    if times > 1 {
        println!("## {} {program:?}: {times} times", exercise.name);
    }
    Ok(())
}

fn the_tests_name_every_exercise() -> Result<()> {
    let names: Vec<_> = EXERCISES.iter().map(|exercise| exercise.name.replace('-', "_")).collect();
    ensure!(names == NAMES);
    Ok(())
}

fn every_readme_has_what_a_student_needs() -> Result<()> {
    for exercise in EXERCISES {
        let readme = exercise.readme()?;
        let by_hand = format!(
            "cargo run -p {} --example {}",
            exercise.package,
            exercise.target(Program::Starter)
        );
        let check = format!("cargo exercise {}", exercise.name);
        let parts = ["**You will learn:**", "**Needs first:**", "**Task.**", &by_hand, &check];
        for part in parts {
            ensure!(readme.text.contains(part), "{}: the README lacks {part}", exercise.name);
        }
        ensure!(readme.minutes().parse::<u32>().is_ok(), "{}: no minutes", exercise.name);
        ensure!(readme.hints().len() == 3, "{}: not three hints", exercise.name);
    }
    Ok(())
}

fn the_book_lists_every_exercise_and_every_symptom() -> Result<()> {
    let book = fs::read_to_string(root().join("docs/exercises.md"))?;
    for (index, exercise) in EXERCISES.iter().enumerate() {
        let (name, package) = (exercise.name, exercise.package);
        let readme = exercise.readme()?;
        let row = format!("| {} | `{name}` | `{package}` | {} |", index + 1, readme.minutes());
        ensure!(book.contains(&row), "the book lacks {row}");
        for symptom in exercise.symptoms {
            ensure!(book.contains(&format!("`{symptom}`")), "the book lacks {symptom}");
        }
    }
    Ok(())
}

fn what_cannot_be_built_is_a_symptom() -> Result<()> {
    let nowhere = Exercise { name: "nowhere", ..EXERCISES[0] };
    let verdict = nowhere.check(Program::Solution)?;
    ensure!(verdict.as_ref().is_err_and(|symptom| symptom.name == "not built"), "{verdict:?}");
    Ok(())
}

fn every_solution_passes_50_times_with_all_processors_loaded() -> Result<()> {
    loaded(|exercise| shows_its_symptom(exercise, Program::Solution, 50))
}

fn every_symptom_shows_10_times_with_all_processors_loaded() -> Result<()> {
    loaded(|exercise| {
        shows_its_symptom(exercise, Program::Starter, 10)?;
        shows_its_symptom(exercise, Program::Tempting, 10)
    })
}

/// Checks every exercise, while as many threads as there are processors do nothing but run.
fn loaded(check: impl FnMut(&Exercise) -> Result<()>) -> Result<()> {
    let stop = AtomicBool::new(false);
    let burn = || {
        while !stop.load(Relaxed) {
            std::hint::spin_loop();
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism()?.get() {
            scope.spawn(burn);
        }
        let checked = EXERCISES.iter().try_for_each(check);
        stop.store(true, Relaxed);
        checked
    })
}
