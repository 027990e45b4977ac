//! The nearest right word to a wrong one.

/// "did you mean …?" with the nearest of `right`, if `wrong` may be meant by it.
pub(crate) fn did_you_mean<'a>(wrong: &str, right: impl Iterator<Item = &'a str>) -> Option<String> {
    let nearest = right.min_by_key(|r| distance(wrong, r))?;
    near(wrong, nearest).then(|| format!("did you mean \"{nearest}\"?"))
}

/// Whether one may be meant by the other: at most a third of it, and one letter more, is different.
pub(crate) fn near(a: &str, b: &str) -> bool {
    distance(a, b) <= 1 + a.chars().count().max(b.chars().count()) / 3
}

/// Insertions, deletions and substitutions from one to the other (Levenshtein 1966), hyphens being underscores.
pub(crate) fn distance(a: &str, b: &str) -> usize {
    let fold = |c: char| if c == '-' { '_' } else { c.to_ascii_lowercase() };
    let b: Vec<char> = b.chars().map(fold).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().map(fold).enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let substituted = corner + usize::from(x != *y);
            corner = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(corner + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_those_of_the_definition() {
        for (a, b, d) in
            [("", "abc", 3), ("kitten", "sitting", 3), ("same", "same", 0), ("a-b", "A_b", 0), ("ab", "ba", 2)]
        {
            assert_eq!((distance(a, b), distance(b, a)), (d, d), "{a} {b}");
        }
    }

    #[test]
    fn only_what_may_be_meant_is_named() {
        let guess = |wrong| did_you_mean(wrong, ["click", "impression"].into_iter());
        assert_eq!(guess("impresion").as_deref(), Some("did you mean \"impression\"?"));
        assert_eq!(guess("purchase"), None);
    }
}
