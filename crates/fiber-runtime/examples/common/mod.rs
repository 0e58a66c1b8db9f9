//! What the examples share: numbers from the command line.

use std::process::exit;

/// A flag that takes a number.
pub(crate) struct Flag {
    /// As it is written, with its dashes.
    pub(crate) name: &'static str,
    /// What it is without being given.
    pub(crate) default: u64,
    /// One line for the help.
    pub(crate) help: &'static str,
}

/// Reads the command line: one number for each of `flags`, in their order. `--help` and mistakes end the program.
pub(crate) fn numbers<const N: usize>(about: &str, flags: [Flag; N]) -> [u64; N] {
    let mut values = std::array::from_fn(|at| flags[at].default);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        if matches!(argument.as_str(), "--help" | "-h") {
            print!("{}", help(about, &flags));
            exit(0);
        }
        let (name, attached) = match argument.split_once('=') {
            Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
            None => (argument, None),
        };
        let Some(at) = flags.iter().position(|flag| flag.name == name) else {
            mistake(about, &flags, &format!("there is no flag {name}"));
        };
        let Some(value) = attached.or_else(|| arguments.next()) else {
            mistake(about, &flags, &format!("{name} needs a number"));
        };
        match value.parse() {
            Ok(number) => values[at] = number,
            Err(_) => mistake(about, &flags, &format!("{name} needs a number, not {value:?}")),
        }
    }
    values
}

fn help(about: &str, flags: &[Flag]) -> String {
    let mut text = format!("{about}\n\nFlags:\n");
    for flag in flags {
        text += &format!("  {:<16} {} (default {})\n", format!("{} N", flag.name), flag.help, flag.default);
    }
    text + "  --help           this text\n"
}

fn mistake(about: &str, flags: &[Flag], what: &str) -> ! {
    eprint!("error: {what}\n\n{}", help(about, flags));
    exit(2);
}
