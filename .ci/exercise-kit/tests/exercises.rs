//! For the maintainers: every starter builds without warnings and shows its declared symptom, every
//! solution passes, and every tempting fix fails with the symptom it deserves.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;

use anyhow::{Context, Result, ensure};
use exercise_kit::check::{EXERCISES, Exercise, Program};

fork_harness::tests! {
    the_tests_name_every_exercise,
    every_readme_has_what_a_student_needs,
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
    let [starter, tempting] = exercise.symptoms.map(Some);
    let expected =
        [(Program::Starter, starter), (Program::Solution, None), (Program::Tempting, tempting)];
    for (program, symptom) in expected {
        let (path, said) = exercise.build(program)?;
        ensure!(said.is_empty(), "{program:?}: the compiler says {said}");
        let verdict = exercise.verdict(&path.context("not built")?)?;
        let found = verdict.as_ref().err().map(|symptom| symptom.name);
        ensure!(found == symptom, "{program:?}: {verdict:?} instead of {symptom:?}");
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

fn what_cannot_be_built_is_a_symptom() -> Result<()> {
    let nowhere = Exercise { name: "nowhere", ..EXERCISES[0] };
    let verdict = nowhere.check(Program::Solution)?;
    ensure!(verdict.as_ref().is_err_and(|symptom| symptom.name == "not built"), "{verdict:?}");
    Ok(())
}

fn every_solution_passes_50_times_with_all_processors_loaded() -> Result<()> {
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
        let passed = EXERCISES.iter().try_for_each(passes_50_times);
        stop.store(true, Relaxed);
        passed
    })
}

fn passes_50_times(exercise: &Exercise) -> Result<()> {
    let (path, _) = exercise.build(Program::Solution)?;
    let path = path.context("not built")?;
    for time in 1..=50 {
        let verdict = exercise.verdict(&path)?;
        ensure!(verdict.is_ok(), "{}, the {time}th time: {verdict:?}", exercise.name);
    }
    println!("## {} passed 50 times", exercise.name);
    Ok(())
}
