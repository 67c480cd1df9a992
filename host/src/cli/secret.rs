//! Reads secret values from a terminal without echo, or from standard input. Never stores them.

use std::io::{IsTerminal as _, Read};

use isopod_policy::limits::CONFIG_VALUE_BYTES_MAX;

use super::failure::Failure;
use super::output;

/// Reads the values one after another from the terminal, or a single one from standard input.
pub(crate) fn read(keys: &[&str]) -> Result<Vec<String>, Failure> {
    if std::io::stdin().is_terminal() {
        return keys.iter().map(|key| from_terminal(key)).collect();
    }
    if let [first, second, ..] = keys {
        return Err(Failure::usage(format!("standard input cannot hold the values of both {first} and {second}"))
            .why("it is read to its end as one value, which may have several lines")
            .next(format!("set one at a time: isopod config set {first} --secret < FILE")));
    }
    keys.iter().map(|key| from_reader(key, std::io::stdin())).collect()
}

fn from_terminal(key: &str) -> Result<String, Failure> {
    output::note(&format!("value of {key} (not shown):"));
    let typed = console::Term::stderr().read_secure_line();
    let typed = typed.map_err(|error| cannot_read(key).why(error))?;
    not_empty(key, typed)
}

fn from_reader(key: &str, reader: impl Read) -> Result<String, Failure> {
    let mut text = String::new();
    // Reads one byte more than the limit, so that a longer value is refused, not truncated. Two
    // more are for the last line break.
    let room = CONFIG_VALUE_BYTES_MAX as u64 + 3;
    reader.take(room).read_to_string(&mut text).map_err(|error| cannot_read(key).why(error))?;
    // Editors and `echo` add a final line break, which isn't part of the value.
    let value = text.strip_suffix('\n').map_or(text.as_str(), |line| line.strip_suffix('\r').unwrap_or(line));
    if value.len() > CONFIG_VALUE_BYTES_MAX {
        return Err(cannot_read(key)
            .why(format!("it is longer than {CONFIG_VALUE_BYTES_MAX} bytes"))
            .next("store larger data in a granted folder, and its path in a config var"));
    }
    not_empty(key, value.to_owned())
}

fn not_empty(key: &str, value: String) -> Result<String, Failure> {
    if value.is_empty() {
        return Err(cannot_read(key).why("the value is empty").next(format!(
            "type the value or pass it on standard input; remove a var with `isopod config unset {key}`"
        )));
    }
    Ok(value)
}

fn cannot_read(key: &str) -> Failure {
    Failure::new(format!("cannot read the value of {key}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<String, Failure> {
        from_reader("TOKEN", text.as_bytes())
    }

    #[test]
    fn only_the_last_line_break_is_removed_from_a_value() {
        assert_eq!(read("s3\n").unwrap(), "s3");
        assert_eq!(read("s3\r\n").unwrap(), "s3");
        assert_eq!(read("-----\nkey\n-----\n").unwrap(), "-----\nkey\n-----");
        assert_eq!(read(" s3 ").unwrap(), " s3 ");
    }

    #[test]
    fn an_empty_value_is_refused() {
        assert!(read("").unwrap_err().text().contains("config unset TOKEN"));
        assert!(read("\n").is_err());
    }

    #[test]
    fn a_value_that_is_too_long_is_refused_not_truncated() {
        let longest = "x".repeat(CONFIG_VALUE_BYTES_MAX);
        assert_eq!(read(&format!("{longest}\r\n")).unwrap(), longest);
        assert!(read(&format!("{longest}x")).is_err());
        assert!(read(&format!("{longest}xxxxxxxx\n")).is_err());
    }
}
