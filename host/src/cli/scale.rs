//! Implements `isopod scale`: shows and sets the minimum and maximum number of instances of each
//! process type. Never starts instances itself.

use std::str::FromStr;

use clap::Args;
use isopod_policy::ProcessName;
use serde_json::{Map, Value, json};

use super::failure::Failure;
use super::formation;
use super::output;
use super::target::{RemoteApp, Target};

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  isopod scale                       shows the formation
  isopod scale web=3..10             at least 3, at most 10
  isopod scale web=2 worker=1        always 2, always 1
  isopod scale web=1..               at least 1; the maximum is unchanged
  isopod scale web=..20              at most 20; the minimum is unchanged")]
pub(crate) struct ScaleArgs {
    /// The process types and their counts, such as web=3..10 or web=2; without any, shows the
    /// formation
    #[arg(value_name = "PROCESS=COUNT")]
    scales: Vec<Scale>,
    #[command(flatten)]
    target: Target,
}

/// The new counts of one process type; `None` leaves a count unchanged.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Scale {
    process: ProcessName,
    min: Option<u32>,
    max: Option<u32>,
}

/// Why a text is not a scale. Each message shows the right form.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum ScaleError {
    #[error("write it as web=3..10, web=2, web=1.. or web=..20")]
    Invalid,
    #[error("{0}")]
    Name(#[from] isopod_policy::NameError),
    #[error("the minimum {min} is greater than the maximum {max}; write {process}={max}..{min}")]
    Reversed { process: ProcessName, min: u32, max: u32 },
}

impl FromStr for Scale {
    type Err = ScaleError;

    fn from_str(text: &str) -> Result<Scale, ScaleError> {
        let (process, counts) = text.split_once('=').ok_or(ScaleError::Invalid)?;
        let process: ProcessName = process.parse()?;
        let (min, max) = match counts.split_once("..") {
            None => (count(counts)?, count(counts)?),
            Some(("", "")) => return Err(ScaleError::Invalid),
            Some((min, max)) => (count(min)?, count(max)?),
        };
        if min.is_none() && max.is_none() {
            return Err(ScaleError::Invalid);
        }
        match (min, max) {
            (Some(min), Some(max)) if min > max => Err(ScaleError::Reversed { process, min, max }),
            _ => Ok(Scale { process, min, max }),
        }
    }
}

/// Parses one side of a range; `None` if it is empty.
fn count(text: &str) -> Result<Option<u32>, ScaleError> {
    if text.is_empty() {
        return Ok(None);
    }
    // `parse` alone would accept "+3".
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let count = text.parse().ok().filter(|_| digits);
    count.map(Some).ok_or(ScaleError::Invalid)
}

/// The note about an app whose formation has no effect yet.
const DEV_NOTE: &str = "note: a dev app doesn't scale; the counts take effect after `isopod apps type production`";

pub(crate) fn run(args: &ScaleArgs) -> Result<(), Failure> {
    if args.scales.is_empty() {
        let app = args.target.look()?;
        let formation = app.get("/formation")?;
        return app.show(&formation, || Ok(formation::table(&formation)));
    }
    let change = change(&args.scales)?;
    let app = args.target.change()?;
    scale(&app, &change)
}

fn scale(app: &RemoteApp, change: &Value) -> Result<(), Failure> {
    let formation = app.rolling_out(|| app.patch("/formation", change))?;
    formation::changed(app, &formation, "scaled")?;
    if output::field(&app.get("")?, "type") == "dev" {
        output::note(DEV_NOTE);
    }
    Ok(())
}

fn change(scales: &[Scale]) -> Result<Value, Failure> {
    let mut change = Map::new();
    for Scale { process, min, max } in scales {
        let counts = [("min", min), ("max", max)];
        let counts: Map<String, Value> =
            counts.into_iter().filter_map(|(key, count)| Some((key.to_owned(), json!((*count)?)))).collect();
        if change.insert(process.to_string(), Value::Object(counts)).is_some() {
            return Err(Failure::usage(format!("{process} is given twice"))
                .why("a process type has only one minimum and maximum")
                .next(format!("write one, such as {process}=3..10")));
        }
    }
    Ok(Value::Object(change))
}

#[cfg(test)]
mod tests {
    use super::super::fake::FakeHost;
    use super::*;
    use proptest::prelude::*;

    fn parsed(text: &str) -> Option<(String, Option<u32>, Option<u32>)> {
        text.parse().ok().map(|Scale { process, min, max }| (process.to_string(), min, max))
    }

    #[test]
    fn a_scale_is_one_count_or_a_range_open_at_either_end() {
        assert_eq!(parsed("web=2"), Some(("web".into(), Some(2), Some(2))));
        assert_eq!(parsed("web=3..10"), Some(("web".into(), Some(3), Some(10))));
        assert_eq!(parsed("web=1.."), Some(("web".into(), Some(1), None)));
        assert_eq!(parsed("web=..20"), Some(("web".into(), None, Some(20))));
    }

    #[test]
    fn an_invalid_scale_is_refused_with_an_example() {
        let wrong = ["", "web", "web=", "web=..", "=3", "web=x", "web=-1", "web=+1", "web=1...3", "web=1..x", "web= 1"];
        for text in wrong.into_iter().chain(["web=4294967296", "Web=1", "web=1=2"]) {
            assert_eq!(parsed(text), None, "{text:?}");
        }
        assert!("web=x".parse::<Scale>().unwrap_err().to_string().contains("web=3..10"));
    }

    #[test]
    fn a_reversed_range_is_corrected_in_the_error() {
        assert!("web=10..3".parse::<Scale>().unwrap_err().to_string().contains("web=3..10"));
    }

    #[test]
    fn the_same_process_type_twice_is_a_usage_error() {
        let scales: Vec<Scale> = ["web=1", "web=2"].map(|text| text.parse().unwrap()).into();
        assert!(change(&scales).unwrap_err().text().contains("twice"));
    }

    #[test]
    fn scaling_patches_the_formation_with_the_given_counts() {
        let scales: Vec<Scale> = ["web=3..10", "worker=..2"].map(|text| text.parse().unwrap()).into();
        let app = || (200, json!({"name": "shop", "type": "production", "release": 2}));
        let host = FakeHost::responding([(200, json!({})), app(), app()]);
        scale(&host.app("shop"), &change(&scales).unwrap()).unwrap();
        let requests = host.requests();
        assert_eq!(requests[0].line, "PATCH /v1/apps/shop/formation");
        assert_eq!(requests[0].body, json!({"web": {"min": 3, "max": 10}, "worker": {"max": 2}}));
    }

    proptest! {
        #[test]
        fn every_range_reads_back_as_it_was_written(min in 0_u32.., more in 0_u32..1000) {
            let max = min.saturating_add(more);
            prop_assert_eq!(parsed(&format!("web={min}..{max}")), Some(("web".into(), Some(min), Some(max))));
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in ".*") {
            let _ = text.parse::<Scale>();
        }
    }
}
