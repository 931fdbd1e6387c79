//! Patterns of `KEYS` and `SCAN`, with Redis' own rules (`*`, `?`, `[a-z]`, `[^a]`, `\x`).

/// Whether the whole of `text` fits `pattern`.
///
/// A `*` that fails is retried from the last one only: what an earlier one could give, the last one can give as
/// well. So the work is at most pattern times text, whatever the pattern.
pub(super) fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut read) = (0, 0);
    let mut last_star: Option<(usize, usize)> = None;
    while let Some(&byte) = text.get(read) {
        if pattern.get(at) == Some(&b'*') {
            at += 1;
            last_star = Some((at, read));
            continue;
        }
        if let Some(after) = match_one(pattern, at, byte) {
            at = after;
            read += 1;
            continue;
        }
        let Some((after_star, taken)) = last_star else { return false };
        at = after_star;
        read = taken + 1;
        last_star = Some((after_star, read));
    }
    pattern[at..].iter().all(|&rest| rest == b'*')
}

/// Matches one byte against the element of the pattern at `at`; gives the position after the element.
fn match_one(pattern: &[u8], at: usize, byte: u8) -> Option<usize> {
    let (fits, after) = match *pattern.get(at)? {
        b'?' => (true, at + 1),
        b'[' => match_class(pattern, at + 1, byte),
        b'\\' if at + 1 < pattern.len() => (pattern[at + 1] == byte, at + 2),
        literal => (literal == byte, at + 1),
    };
    fits.then_some(after)
}

/// Matches a class whose first byte is at `at`. As in Redis, one without its `]` ends with the pattern, and a
/// range takes whatever follows its `-`, even a `]`.
fn match_class(pattern: &[u8], mut at: usize, byte: u8) -> (bool, usize) {
    let negated = pattern.get(at) == Some(&b'^');
    at += usize::from(negated);
    let mut found = false;
    loop {
        at += match pattern[at..] {
            [b'\\', escaped, ..] => {
                found |= escaped == byte;
                2
            }
            [b']', ..] => return (found != negated, at + 1),
            [] => return (found != negated, at),
            [from, b'-', to, ..] => {
                found |= (from.min(to)..=from.max(to)).contains(&byte);
                3
            }
            [literal, ..] => {
                found |= literal == byte;
                1
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn patterns_match_as_in_redis() {
        for (pattern, text, expected) in [
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("a*", "a", true),
            ("*b*d", "abcbcd", true),
            ("*ab", "aab", true),
            ("a*b", "acbc", false),
            ("workflows:run:*", "workflows:run:r1", true),
            ("workflows:run:*", "workflows:step:r1", false),
            ("h?llo", "hallo", true),
            ("h?llo", "hllo", false),
            ("h[ae]llo", "hello", true),
            ("h[ae]llo", "hillo", false),
            ("h[^e]llo", "hello", false),
            ("h[a-c]llo", "hbllo", true),
            ("h[c-a]llo", "hbllo", true),
            ("[\\]]", "]", true),
            ("[]", "a", false),
            ("[^]", "a", true),
            ("[a", "a", true),
            ("[a-]", "b", false),
            ("\\*", "*", true),
            ("\\*", "a", false),
            ("a\\", "a\\", true),
            ("A", "a", false),
        ] {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), expected, "{pattern} on {text}");
        }
    }

    #[test]
    fn a_pattern_of_many_stars_stays_cheap() {
        let pattern = "a*".repeat(200) + "b";
        assert!(!matches(pattern.as_bytes(), "a".repeat(5_000).as_bytes()));
    }
}
