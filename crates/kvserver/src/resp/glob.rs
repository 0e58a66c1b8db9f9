//! Patterns of `KEYS`, `SCAN MATCH` and `CONFIG GET`: `*`, `?`, `[a-c]`, `[^a]` and `\` as in Redis, over bytes.

/// Whether `text` as a whole matches `pattern`.
///
/// Takes time in the order of the product of both lengths at worst: of several stars only the last one is ever
/// taken back, so a pattern like `*a*a*a*b` cannot be used to hold a worker.
pub(super) fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        if pattern.get(p) == Some(&b'*') {
            p += 1;
            star = Some((p, t));
            continue;
        }
        if let Some(next) = one(&pattern[p..], text[t]) {
            p += next;
            t += 1;
            continue;
        }
        let Some((after_star, taken)) = star else { return false };
        // The star swallows one byte more and the rest is tried again.
        p = after_star;
        t = taken + 1;
        star = Some((after_star, t));
    }
    pattern[p..].iter().all(|&byte| byte == b'*')
}

/// The bytes every match must begin with.
pub(super) fn literal_prefix(pattern: &[u8]) -> Vec<u8> {
    let mut prefix = Vec::new();
    let mut rest = pattern;
    loop {
        match rest {
            [b'\\', literal, tail @ ..] => {
                prefix.push(*literal);
                rest = tail;
            }
            [] | [b'*' | b'?' | b'[', ..] => return prefix,
            [literal, tail @ ..] => {
                prefix.push(*literal);
                rest = tail;
            }
        }
    }
}

/// Matches `byte` against the first element of `pattern`, which is no star; gives the element's length.
fn one(pattern: &[u8], byte: u8) -> Option<usize> {
    match *pattern {
        [] => None,
        [b'?', ..] => Some(1),
        [b'[', ref class @ ..] => {
            let (hit, length) = class_matches(class, byte);
            hit.then_some(length + 1)
        }
        [b'\\', literal, ..] => (literal == byte).then_some(2),
        [literal, ..] => (literal == byte).then_some(1),
    }
}

/// Matches a class that starts behind its `[`; gives the verdict and the length up to and with its `]`. A class that
/// is not closed ends with the pattern.
fn class_matches(class: &[u8], byte: u8) -> (bool, usize) {
    let negated = class.first() == Some(&b'^');
    let mut at = usize::from(negated);
    let mut hit = false;
    loop {
        match class[at..] {
            [] => return (hit != negated, at),
            [b']', ..] => return (hit != negated, at + 1),
            [b'\\', literal, ..] => {
                hit |= literal == byte;
                at += 2;
            }
            [low, b'-', high, ..] if high != b']' => {
                hit |= (low.min(high)..=low.max(high)).contains(&byte);
                at += 3;
            }
            [literal, ..] => {
                hit |= literal == byte;
                at += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_redis() {
        let cases: &[(&str, &str, bool)] = &[
            ("*", "", true),
            ("*", "abc", true),
            ("a*c", "abbbc", true),
            ("a*c", "abbbd", false),
            ("h?llo", "hello", true),
            ("h?llo", "hllo", false),
            ("h[ae]llo", "hallo", true),
            ("h[ae]llo", "hillo", false),
            ("h[^e]llo", "hallo", true),
            ("h[^e]llo", "hello", false),
            ("h[a-c]llo", "hbllo", true),
            ("h[c-a]llo", "hbllo", true),
            ("h\\*llo", "h*llo", true),
            ("h\\*llo", "hallo", false),
            ("*a*b*c*", "xxaxxbxxcxx", true),
            ("*a*b*c", "xxaxxbxxcxx", false),
            ("a**", "a", true),
            ("[abc", "a", true),
            ("", "", true),
            ("", "a", false),
        ];
        for &(pattern, text, expected) in cases {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), expected, "{pattern} on {text}");
        }
    }

    #[test]
    fn many_stars_do_not_explode() {
        let text = vec![b'a'; 3000];
        let pattern = [&b"*a".repeat(100)[..], b"*b"].concat();
        assert!(!matches(&pattern, &text));
    }

    #[test]
    fn prefix_is_what_every_match_begins_with() {
        for (pattern, prefix) in
            [("user:*", "user:"), ("*", ""), ("a\\*b?c", "a*b"), ("abc", "abc"), ("a[b]", "a")]
        {
            assert_eq!(literal_prefix(pattern.as_bytes()), prefix.as_bytes(), "{pattern}");
        }
    }
}
