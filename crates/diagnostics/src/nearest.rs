//! Finds the known name that is most similar to a misspelt one.

/// The maximum length of a compared name, in bytes. Longer names are never suggested.
const CANDIDATE_BYTES_MAX: usize = 64;

/// The maximum number of candidates that are compared with a name.
const CANDIDATES_MAX: usize = 256;

/// Returns the candidate with the smallest edit distance to `name`, ignoring case; `None` if that distance is larger
/// than a third of the name's length (at least 1).
///
/// The time of one comparison is proportional to the product of both lengths, so only names of up to 64 bytes and the
/// first 256 candidates are compared.
#[must_use]
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if name.len() > CANDIDATE_BYTES_MAX {
        return None;
    }
    let name = name.to_lowercase();
    let distance_max = (name.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .filter(|candidate| candidate.len() <= CANDIDATE_BYTES_MAX)
        .take(CANDIDATES_MAX)
        .map(|candidate| (strsim::damerau_levenshtein(&name, &candidate.to_lowercase()), candidate))
        .filter(|(distance, _)| *distance <= distance_max)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_name_is_recognized_and_another_name_is_not() {
        let known = ["catalog", "cart", "checkout"];
        assert_eq!(nearest("catalgo", known), Some("catalog"));
        assert_eq!(nearest("CART", known), Some("cart"));
        assert_eq!(nearest("payment", known), None);
        assert_eq!(nearest(&"x".repeat(CANDIDATE_BYTES_MAX + 1), known), None);
    }
}
