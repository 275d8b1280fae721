//! Topic patterns: `*` is one word, `#` any number of them.

/// The words of a key, between its dots. An empty key has no word; `a..b` has an empty one in the middle.
#[derive(Debug, Clone, Copy)]
struct Words<'a>(Option<&'a [u8]>);

impl<'a> Words<'a> {
    fn of(key: &'a [u8]) -> Self {
        Self((!key.is_empty()).then_some(key))
    }
}

impl<'a> Iterator for Words<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let rest = self.0?;
        let mut parts = rest.splitn(2, |octet| *octet == b'.');
        let word = parts.next();
        self.0 = parts.next();
        word
    }
}

/// Whether a binding's pattern matches a routing key.
///
/// A `#` takes no word at first. Where the rest does not fit, the last `#` takes one word more; those before it never need to,
/// since the last one could take whatever they would. So the time is bounded by the product of the lengths.
pub(super) fn matches(pattern: &[u8], key: &[u8]) -> bool {
    let (mut pattern, mut key) = (Words::of(pattern), Words::of(key));
    // Behind the last `#`: of the pattern, and of the key if it takes no more.
    let mut retry = None;
    loop {
        let (mut next_pattern, mut next_key) = (pattern, key);
        match (next_pattern.next(), next_key.next()) {
            (None, None) => return true,
            (Some(b"#"), _) => {
                pattern = next_pattern;
                retry = Some((pattern, key));
            }
            (Some(wanted), Some(word)) if wanted == b"*" || wanted == word => {
                (pattern, key) = (next_pattern, next_key);
            }
            _ => {
                let Some((behind, mut rest)) = retry else {
                    return false;
                };
                if rest.next().is_none() {
                    return false;
                }
                (pattern, key) = (behind, rest);
                retry = Some((pattern, key));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn words_stars_and_hashes() {
        for (pattern, key, expected) in [
            ("a.b", "a.b", true),
            ("a.b", "a.b.c", false),
            ("a.b.c", "a.b", false),
            ("*", "a", true),
            ("*", "", false),
            ("*", "a.b", false),
            ("*.*", ".", true),
            ("*", "*", true),
            ("#", "", true),
            ("#", "a.b.c", true),
            ("a.#", "a", true),
            ("a.#", "b", false),
            ("#.a", "a", true),
            ("#.a", "b.a.a", true),
            ("#.a", "a.b", false),
            ("a.#.b", "a.b", true),
            ("a.#.b", "a.x.y.b", true),
            ("a.*.#.b", "a.b", false),
            ("#.#", "", true),
            ("#.*.#", "", false),
            ("a..b", "a..b", true),
            ("a.*.b", "a..b", true),
            ("a.b", "a..b", false),
            ("", "", true),
            ("", "a", false),
            ("a.", "a", false),
            ("a.*", "a.", true),
            ("a*", "ab", false),
        ] {
            assert_eq!(
                matches(pattern.as_bytes(), key.as_bytes()),
                expected,
                "{pattern} {key}"
            );
        }
    }

    #[test]
    fn many_hashes_take_no_exponential_time() {
        let pattern = "#.a.".repeat(60) + "b";
        let key = "a.".repeat(120) + "c";
        assert!(!matches(pattern.as_bytes(), key.as_bytes()));
    }

    fn naive(pattern: &[&str], key: &[&str]) -> bool {
        match (pattern, key) {
            ([], key) => key.is_empty(),
            (["#", rest @ ..], key) => (0..=key.len()).any(|taken| naive(rest, &key[taken..])),
            (["*", rest @ ..], [_, key @ ..]) => naive(rest, key),
            ([wanted, rest @ ..], [word, key @ ..]) => wanted == word && naive(rest, key),
            (_, []) => false,
        }
    }

    fn words(text: &str) -> Vec<&str> {
        if text.is_empty() {
            Vec::new()
        } else {
            text.split('.').collect()
        }
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_naive_matcher(
            pattern in prop::collection::vec(prop::sample::select(vec!["a", "b", "", "*", "#"]), 0..7),
            key in prop::collection::vec(prop::sample::select(vec!["a", "b", "", "*", "#"]), 0..7),
        ) {
            let (pattern, key) = (pattern.join("."), key.join("."));
            prop_assert_eq!(
                matches(pattern.as_bytes(), key.as_bytes()),
                naive(&words(&pattern), &words(&key)),
                "{} {}", pattern, key
            );
        }
    }
}
