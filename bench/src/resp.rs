//! The client's side of RESP: requests to bytes, and where a reply ends.

/// Appends a request in its array form.
pub fn put_request(out: &mut Vec<u8>, words: &[&[u8]]) {
    out.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        out.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
}

/// What a whole reply at the front of a buffer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Its length in bytes.
    pub length: usize,
    /// Whether it is an error.
    pub is_error: bool,
}

/// The reply at the front of `buffer`; `None` while its end is missing. Knows the replies of plain string commands:
/// lines and bulk strings.
///
/// # Errors
/// The first byte belongs to no such reply.
pub fn reply(buffer: &[u8]) -> Result<Option<Reply>, u8> {
    let Some(&kind) = buffer.first() else { return Ok(None) };
    let Some(line_end) = buffer.iter().position(|&byte| byte == b'\n').map(|newline| newline + 1) else {
        return Ok(None);
    };
    let length = match kind {
        b'+' | b'-' | b':' | b'_' => line_end,
        b'$' => {
            let digits = buffer[1..line_end].trim_ascii();
            let number = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse::<i64>().ok());
            match number.ok_or(kind)? {
                number if number < 0 => line_end,
                number => line_end + number as usize + 2,
            }
        }
        other => return Err(other),
    };
    Ok((buffer.len() >= length).then_some(Reply { length, is_error: kind == b'-' }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_end_where_they_end() {
        for (text, is_error) in [
            ("+OK\r\n", false),
            ("-ERR no\r\n", true),
            (":5\r\n", false),
            ("$-1\r\n", false),
            ("$3\r\na\nb\r\n", false),
        ] {
            let whole = format!("{text}+NEXT");
            for cut in 0..text.len() {
                assert_eq!(reply(&whole.as_bytes()[..cut]), Ok(None), "{text:?} cut at {cut}");
            }
            assert_eq!(reply(whole.as_bytes()), Ok(Some(Reply { length: text.len(), is_error })));
        }
        assert_eq!(reply(b"?\r\n"), Err(b'?'));
    }

    #[test]
    fn requests_are_arrays_of_bulks() {
        let mut out = Vec::new();
        put_request(&mut out, &[b"GET", b"a"]);
        assert_eq!(out, b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n");
    }
}
