//! Another reader of requests of HTTP/1: heads by httparse, bodies framed here.

/// Request lines in order, and false if something was not understood.
pub(crate) fn requests(mut bytes: &[u8]) -> (Vec<String>, bool) {
    let mut read = Vec::new();
    loop {
        let mut fields = [httparse::EMPTY_HEADER; 128];
        let mut request = httparse::Request::new(&mut fields);
        let head = match request.parse(bytes) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) => return (read, true),
            Err(_) => return (read, false),
        };
        let (method, target) = (request.method.unwrap_or_default(), request.path.unwrap_or_default());
        read.push(format!("{method} {target} HTTP/1.{}", request.version.unwrap_or_default()));
        let value = |name: &str| {
            let found = request.headers.iter().find(|field| field.name.eq_ignore_ascii_case(name));
            found.map(|field| String::from_utf8_lossy(field.value).trim().to_ascii_lowercase())
        };
        let rest = &bytes[head..];
        let body = match (value("transfer-encoding"), value("content-length")) {
            (Some(coding), _) => {
                assert_eq!(coding, "chunked");
                chunks(rest)
            }
            (None, Some(length)) => length.parse().ok().filter(|length| *length <= rest.len()),
            (None, None) => Some(0),
        };
        match body {
            Some(length) => bytes = &rest[length..],
            None => return (read, true),
        }
    }
}

/// Length of a chunked body; `None` while it is incomplete.
fn chunks(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        let line = line(&bytes[at..])?;
        let size = line.split(|byte| *byte == b';').next().unwrap_or_default();
        let size = usize::from_str_radix(std::str::from_utf8(size).expect("a size"), 16).expect("a size");
        at += line.len() + 2;
        if size == 0 {
            break;
        }
        let end = at.checked_add(size)?;
        assert!(b"\r\n".starts_with(bytes.get(end..bytes.len().min(end + 2))?), "a chunk without an end");
        at = end + 2;
        bytes.get(at..)?;
    }
    loop {
        let line = line(&bytes[at..])?;
        at += line.len() + 2;
        if line.is_empty() {
            return Some(at);
        }
    }
}

fn line(bytes: &[u8]) -> Option<&[u8]> {
    let end = bytes.windows(2).position(|two| two == b"\r\n")?;
    Some(&bytes[..end])
}
