//! The name that was probably meant: one measure of likeness for every mistake that is reported.

/// How alike two names must be, 0..1, before one is offered for the other.
const ALIKE: f64 = 0.8;

/// The one of `names` that is most like `word`, whatever the case; `None` where nothing is like it.
/// Of equally like names the first.
pub(crate) fn nearest<'a>(word: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    let mut best: Option<(f64, &str)> = None;
    for name in names {
        let likeness = strsim::jaro_winkler(&word, &name.to_lowercase());
        if likeness >= ALIKE && best.is_none_or(|(so_far, _)| likeness > so_far) {
            best = Some((likeness, name));
        }
    }
    best.map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn slips_find_their_name_and_other_words_find_none() {
        let keys = ["max_drop", "max_relative_drop", "min", "must_improve_by", "tier", "score_thr"];
        let meant = |word| nearest(word, keys);
        assert_eq!(meant("max_dorp"), Some("max_drop"));
        assert_eq!(meant("MAX_DROP"), Some("max_drop"));
        assert_eq!(meant("max_relative"), Some("max_relative_drop"));
        assert_eq!(meant("score_threshold"), Some("score_thr"));
        assert_eq!(meant("colour"), None);
        assert_eq!(nearest("ap", []), None);
    }
}
