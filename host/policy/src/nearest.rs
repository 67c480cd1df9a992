//! "Did you mean": finds the known word that a user probably meant. Owns the similarity measure,
//! for keys and names. Never changes the input.

/// Returns the known word nearest to the given one, if any is near enough.
pub fn nearest<'k>(given: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let given = given.to_ascii_lowercase();
    let (distance, best) = known
        .into_iter()
        .map(|word| {
            // A common prefix suffices, as in "mem" and "memory".
            let prefix = given.len() >= 3 && (word.starts_with(&given) || given.starts_with(word));
            (if prefix { 0 } else { strsim::damerau_levenshtein(&given, word) }, word)
        })
        .min()?;
    (distance <= 1 + best.len() / 3).then_some(best)
}

/// Returns the end of an error about an unknown word: the nearest word, or else all known words.
pub(crate) fn did_you_mean(nearest: Option<&str>, known: &str) -> String {
    match nearest {
        Some(nearest) => format!("; did you mean {nearest:?}?"),
        None => format!("; known: {known}"),
    }
}
