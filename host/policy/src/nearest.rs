//! "Did you mean": the known word that a person most probably meant. Owns the measure, for every reader of keys and
//! names.

/// The known word that is nearest to what was given, if any is near.
pub fn nearest<'k>(given: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let given = given.to_ascii_lowercase();
    let (distance, best) = known
        .into_iter()
        .map(|word| {
            // One that begins with the other is near however long the rest is, as "mem" is to "memory".
            let prefix = given.len() >= 3 && (word.starts_with(&given) || given.starts_with(word));
            (if prefix { 0 } else { strsim::damerau_levenshtein(&given, word) }, word)
        })
        .min()?;
    (distance <= 1 + best.len() / 3).then_some(best)
}

/// The end of a sentence about an unknown word: the nearest one, or else all there are.
pub(crate) fn did_you_mean(nearest: Option<&str>, known: &str) -> String {
    match nearest {
        Some(nearest) => format!("; did you mean {nearest:?}?"),
        None => format!("; known here: {known}"),
    }
}
