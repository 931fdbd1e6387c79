//! Entries of a step's history, as the original writes them: flat JSON objects without spaces, one an attempt.
//!
//! They are changed as text. To decode and encode them would rewrite what the user stored; and since no string in
//! them holds a bare quote, a name between quotes with a comma before and a colon after is always a member's.
//! `lua/shared.lua` does the same.

/// Text as a JSON string, byte for byte as `JSON.stringify` writes it.
pub fn quote(text: &[u8]) -> Vec<u8> {
    let mut quoted = Vec::with_capacity(text.len() + 2);
    quoted.push(b'"');
    for &byte in text {
        match byte {
            b'"' | b'\\' => quoted.extend([b'\\', byte]),
            b'\n' => quoted.extend(b"\\n"),
            b'\r' => quoted.extend(b"\\r"),
            b'\t' => quoted.extend(b"\\t"),
            0x08 => quoted.extend(b"\\b"),
            0x0c => quoted.extend(b"\\f"),
            0..=0x1f => quoted.extend(format!("\\u{byte:04x}").bytes()),
            _ => quoted.push(byte),
        }
    }
    quoted.push(b'"');
    quoted
}

/// Where a member of an entry is, from its comma to its end.
fn locate(entry: &[u8], name: &str) -> Option<std::ops::Range<usize>> {
    let label = format!(",\"{name}\":").into_bytes();
    let from = entry.windows(label.len()).position(|window| window == label)?;
    let start = from + label.len();
    if entry.get(start) != Some(&b'"') {
        let length = entry[start..]
            .iter()
            .take_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'+' | b'-'))
            .count();
        return Some(from..start + length);
    }
    let mut at = start + 1;
    loop {
        match entry.get(at)? {
            b'"' => return Some(from..at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

/// An entry with a member replaced where it is, added at the end, or (without a value) removed.
fn with(entry: &[u8], name: &str, value: Option<&[u8]>) -> Vec<u8> {
    let member = value.map_or_else(Vec::new, |value| [b",\"", name.as_bytes(), b"\":", value].concat());
    match locate(entry, name) {
        Some(place) => [&entry[..place.start], &member, &entry[place.end..]].concat(),
        None => [&entry[..entry.len().saturating_sub(1)], &member, b"}"].concat(),
    }
}

fn stamped(entry: Vec<u8>, status: &str, now: u64) -> Vec<u8> {
    if status == "pending" {
        return entry;
    }
    with(&entry, &format!("{status}At"), Some(now.to_string().as_bytes()))
}

/// Whether an entry says of this attempt that it has this status, and the result or error that goes with it.
pub(super) fn says(entry: &[u8], attempt: u64, status: &str, payload: Option<(&str, &[u8])>) -> bool {
    let member = |name: &str| {
        let place = locate(entry, name)?;
        Some(&entry[place.start + name.len() + 4..place.end])
    };
    member("attemptCount") == Some(attempt.to_string().as_bytes())
        && member("status") == Some(quote(status.as_bytes()).as_slice())
        && payload.is_none_or(|(field, json)| {
            let json = (!json.is_empty()).then(|| quote(json));
            member(field) == json.as_deref()
        })
}

/// What an entry says of its step.
pub(super) struct Subject<'a> {
    pub(super) id: &'a [u8],
    pub(super) name: &'a [u8],
    pub(super) retries: Option<&'a [u8]>,
    pub(super) retry_delay: Option<&'a [u8]>,
}

/// The entry of an attempt that begins.
pub(super) fn fresh(subject: &Subject<'_>, attempt: u64, status: &str, now: u64) -> Vec<u8> {
    let mut entry = b"{\"stepId\":".to_vec();
    entry.extend(quote(subject.id));
    entry.extend(b",\"stepName\":");
    entry.extend(quote(subject.name));
    entry.extend(format!(",\"attemptCount\":{attempt},\"status\":\"{status}\"").bytes());
    let is_number = |text: &&[u8]| std::str::from_utf8(text).is_ok_and(|text| text.parse::<f64>().is_ok());
    if let Some(retries) = subject.retries.filter(is_number) {
        entry.extend(b",\"retries\":");
        entry.extend(retries);
    }
    if let Some(delay) = subject.retry_delay {
        entry.extend(b",\"retryDelay\":");
        entry.extend(quote(delay));
    }
    entry.extend(format!(",\"createdAt\":{now}}}").bytes());
    stamped(entry, status, now)
}

/// An entry with a new status, and the result or error that goes with it. `None` if it is not such an entry.
pub(super) fn moved(entry: &[u8], status: &str, payload: Option<(&str, &[u8])>, now: u64) -> Option<Vec<u8>> {
    locate(entry, "status")?;
    let mut entry = with(entry, "status", Some(format!("\"{status}\"").as_bytes()));
    for name in ["result", "error"] {
        if payload.is_none_or(|(field, _)| field != name) && locate(&entry, name).is_some() {
            entry = with(&entry, name, None);
        }
    }
    Some(finished(entry, status, payload, now))
}

/// An entry with its payload and the time of its status.
pub(super) fn finished(
    mut entry: Vec<u8>,
    status: &str,
    payload: Option<(&str, &[u8])>,
    now: u64,
) -> Vec<u8> {
    // An `undefined` is stored as no text, and left out here.
    if let Some((field, json)) = payload.filter(|(_, json)| !json.is_empty()) {
        entry = with(&entry, field, Some(&quote(json)));
    }
    stamped(entry, status, now)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: Subject<'static> =
        Subject { id: b"r:a\"b:1", name: b"a\"b", retries: Some(b"3"), retry_delay: Some(b"1s") };

    fn text(entry: &[u8]) -> &str {
        std::str::from_utf8(entry).unwrap()
    }

    #[test]
    fn an_entry_has_the_bytes_of_the_original() {
        let entry = fresh(&STEP, 1, "pending", 1);
        let head = r#"{"stepId":"r:a\"b:1","stepName":"a\"b","attemptCount":1,"status":"#;
        assert_eq!(text(&entry), format!(r#"{head}"pending","retries":3,"retryDelay":"1s","createdAt":1}}"#));
        let entry = moved(&entry, "running", None, 2).unwrap();
        let tail = r#""retries":3,"retryDelay":"1s","createdAt":1,"runningAt":2"#;
        assert_eq!(text(&entry), format!(r#"{head}"running",{tail}}}"#));
        let entry = moved(&entry, "succeeded", Some(("result", br#"{"a":"\\"}"#)), 3).unwrap();
        let result = r#""result":"{\"a\":\"\\\\\"}","succeededAt":3"#;
        assert_eq!(text(&entry), format!(r#"{head}"succeeded",{tail},{result}}}"#));
    }

    #[test]
    fn what_is_obsolete_goes_and_what_looks_like_a_member_stays() {
        let step = Subject { name: br#"x,"status":"failed","error":1"#, ..STEP };
        let entry = fresh(&step, 2, "running", 5);
        let failed =
            moved(&entry, "failed", Some(("error", br#"{"message":"\"},\"result\":1"}"#)), 6).unwrap();
        let again = moved(&failed, "running", None, 7).unwrap();
        assert!(text(&again).ends_with(r#","createdAt":5,"runningAt":7,"failedAt":6}"#), "{}", text(&again));
        assert!(text(&again).contains(r#""stepName":"x,\"status\":\"failed\",\"error\":1""#));
        assert_eq!(moved(b"not an entry", "running", None, 1), None);
        let error: &[u8] = br#"{"message":"\"},\"result\":1"}"#;
        assert!(says(&failed, 2, "failed", Some(("error", error))) && says(&again, 2, "running", None));
        assert!(!says(&failed, 1, "failed", None) && !says(&failed, 2, "failed", Some(("error", b""))));
        assert!(!says(&again, 2, "pending", None) && !says(b"not an entry", 2, "running", None));
    }

    #[test]
    fn control_characters_are_escaped() {
        assert_eq!(text(&quote(b"a\x01\n\x1f\x7f/")), "\"a\\u0001\\n\\u001f\x7f/\"");
    }
}
