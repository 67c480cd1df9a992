//! Finds numbers by the words in their names. The index of two hundred thousand names takes long to
//! build, so it is part of a snapshot.

use isopod_sdk::prelude::*;
use std::collections::HashMap;
use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

const UNITS: &str = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen \
                     sixteen seventeen eighteen nineteen";
const TENS: &str = "twenty thirty forty fifty sixty seventy eighty ninety";

/// The sorted numbers for each word, and the time at which the index was built.
static INDEX: OnceLock<(HashMap<&str, Vec<u32>>, SystemTime)> = OnceLock::new();

isopod_sdk::init!(build);
isopod_sdk::http!(app);
isopod_sdk::routes!(app: GET "/" => find, GET "/about" => about);

async fn build() -> Result<()> {
    let mut index: HashMap<&str, Vec<u32>> = HashMap::new();
    for number in 0..200_000 {
        name(number).into_iter().for_each(|word| index.entry(word).or_default().push(number));
    }
    index.values_mut().for_each(Vec::dedup);
    log::info!("the index holds {} words", index.len());
    INDEX.get_or_init(|| (index, SystemTime::now()));
    Ok(())
}

/// Returns the words of a number's name.
fn name(number: u32) -> Vec<&'static str> {
    let unit = |number: u32| UNITS.split_whitespace().nth(number as usize).unwrap_or_default();
    let ten = |number: u32| TENS.split_whitespace().nth(number as usize - 2).unwrap_or_default();
    let rest = |number: u32| if number == 0 { Vec::new() } else { name(number) };
    match number {
        0..20 => vec![unit(number)],
        20..100 => [vec![ten(number / 10)], rest(number % 10)].concat(),
        100..1000 => [vec![unit(number / 100), "hundred"], rest(number % 100)].concat(),
        _ => [name(number / 1000), vec!["thousand"], rest(number % 1000)].concat(),
    }
}

async fn find(request: Request) -> Result<Response> {
    let Some(query) = request.query_param("q") else {
        return Ok(Response::text("Finds numbers by the words in their names: ask for /?q=forty+two\n"));
    };
    let (index, _) = INDEX.get().context("there is no index")?;
    let lists: Vec<&[u32]> =
        query.split_whitespace().map(|word| index.get(word).map_or(&[][..], Vec::as_slice)).collect();
    let (first, rest) = lists.split_first().or_status(400, "ask for a word or more")?;
    let found = first.iter().filter(|number| rest.iter().all(|list| list.binary_search(number).is_ok()));
    Ok(Response::text(found.take(10).map(|number| format!("{}\n", name(*number).join(" "))).collect::<String>()))
}

async fn about(_: Request) -> Result<Response> {
    let (_, built_at) = INDEX.get().context("there is no index")?;
    Ok(Response::text(format!("built at {} ms", built_at.duration_since(UNIX_EPOCH)?.as_millis())))
}
