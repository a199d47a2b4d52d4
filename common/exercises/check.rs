//! `cargo exercise`: checks the classroom exercises of all crates. See `docs/exercises.md`.

fn main() -> std::process::ExitCode {
    exercise_kit::check::main()
}
