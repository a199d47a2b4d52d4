//! The command line of the three article programs: a few whole numbers, each with a default.

use std::fmt::Write;
use std::process::exit;

/// One positional argument: a whole number from 1 up.
#[derive(Debug, Clone, Copy)]
pub struct Argument {
    /// Its name in the usage line, in capitals.
    pub name: &'static str,
    /// What it means, in one line.
    pub meaning: &'static str,
    /// Its value where it is left out.
    pub default: u64,
}

/// Reads the program's command line: the numbers given, and the default of each left out.
///
/// `--help` prints the usage and ends the program with 0. An argument that is no whole number from
/// 1 up, or one too many, prints a line that names it, and the usage, on stderr, and ends the
/// program with 2. Call it before anything else: then no process was forked for a bad call.
pub fn parse<const N: usize>(program: &str, arguments: [Argument; N]) -> [u64; N] {
    let given: Vec<String> =
        std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    if given.iter().any(|word| word == "--help" || word == "-h") {
        print!("{}", usage(program, &arguments));
        exit(0);
    }
    numbers(&arguments, &given).unwrap_or_else(|problem| {
        eprint!("{program}: {problem}\n{}", usage(program, &arguments));
        exit(2);
    })
}

fn numbers<const N: usize>(
    arguments: &[Argument; N],
    given: &[String],
) -> Result<[u64; N], String> {
    if let Some(extra) = given.get(N) {
        return Err(format!("'{extra}' is one argument too many: there are at most {N}"));
    }
    let mut values = arguments.map(|argument| argument.default);
    for ((value, argument), word) in values.iter_mut().zip(arguments).zip(given) {
        *value = word.parse().ok().filter(|&number| number > 0).ok_or_else(|| {
            format!("{} must be a whole number from 1 to {}, not '{word}'", argument.name, u64::MAX)
        })?;
    }
    Ok(values)
}

fn usage(program: &str, arguments: &[Argument]) -> String {
    let mut text = format!("Usage: {program}");
    for argument in arguments {
        let _ = write!(text, " [{}]", argument.name);
    }
    text.push('\n');
    for Argument { name, meaning, default } in arguments {
        let _ = writeln!(text, "  {name:<12} {meaning} (default {default})");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARGUMENTS: [Argument; 2] = [
        Argument { name: "WORKERS", meaning: "how many children", default: 5 },
        Argument { name: "COUNT", meaning: "how far each counts", default: 100 },
    ];

    fn parsed(given: &[&str]) -> Result<[u64; 2], String> {
        numbers(&ARGUMENTS, &given.iter().map(|word| word.to_string()).collect::<Vec<_>>())
    }

    #[test]
    fn what_is_left_out_takes_its_default() {
        assert_eq!(parsed(&[]), Ok([5, 100]));
        assert_eq!(parsed(&["7"]), Ok([7, 100]));
        assert_eq!(parsed(&["7", "8"]), Ok([7, 8]));
    }

    #[test]
    fn a_bad_argument_is_named() {
        for bad in ["0", "-1", "abc", "1e9", "", "1.5", "18446744073709551616"] {
            let problem = parsed(&["3", bad]).unwrap_err();
            assert!(problem.starts_with("COUNT") && problem.contains(bad), "{problem}");
        }
        assert!(parsed(&["1", "2", "3"]).unwrap_err().contains("'3'"));
    }

    #[test]
    fn the_usage_names_every_argument_and_its_default() {
        let text = usage("queue-demo", &ARGUMENTS);
        assert!(text.starts_with("Usage: queue-demo [WORKERS] [COUNT]\n"), "{text}");
        assert!(text.contains("how far each counts (default 100)"), "{text}");
    }
}
