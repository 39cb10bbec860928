//! A registry small enough to misbehave on demand: enough of the distribution protocol to be pulled from.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use theca_image::Digest;

/// What a registry does besides serving.
#[derive(Clone, Debug, Default)]
pub struct Manners {
    /// Wants a token, got with this user and password (`user:password` in base64).
    pub token_for: Option<String>,
    /// Wants this user and password with each request.
    pub basic: Option<String>,
    /// Ends each blob in the middle as often as this in all.
    pub breaks: u32,
    /// Answers range requests with the whole blob.
    pub ignores_ranges: bool,
    /// Answers requests whose path contains the first with the status that is the second, and never ends.
    pub floods: Option<(&'static str, &'static str)>,
    /// Sends other bytes of the same length.
    pub lies: Option<Digest>,
}

struct State {
    /// By URL path.
    content: HashMap<String, (String, Vec<u8>)>,
    manners: Manners,
    requests: Vec<String>,
}

/// Serves until the test process ends.
pub struct FakeRegistry {
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl FakeRegistry {
    pub fn start(manners: Manners) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State { content: HashMap::new(), manners, requests: Vec::new() }));
        let served = state.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = served.clone();
                std::thread::spawn(move || serve(stream, address, &state));
            }
        });
        Self { address, state }
    }

    pub fn put_manifest(&self, repository: &str, name: &str, media_type: &str, bytes: Vec<u8>) {
        let path = format!("/v2/{repository}/manifests/{name}");
        self.state.lock().unwrap().content.insert(path, (media_type.to_owned(), bytes));
    }

    pub fn put_blob(&self, repository: &str, digest: &Digest, bytes: Vec<u8>) {
        let path = format!("/v2/{repository}/blobs/{digest}");
        self.state.lock().unwrap().content.insert(path, ("application/octet-stream".into(), bytes));
    }

    /// Requests for blobs so far.
    pub fn blob_requests(&self) -> Vec<String> {
        let state = self.state.lock().unwrap();
        state.requests.iter().filter(|request| request.contains("/blobs/")).cloned().collect()
    }
}

struct Request {
    path: String,
    headers: HashMap<String, String>,
}

fn read_request(reader: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|n| *n > 0)?;
    // A TLS greeting is no request; dropping the connection is what a plain server does.
    let path = line.strip_prefix("GET ")?.split(' ').next()?.to_owned();
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    Some(Request { path, headers })
}

fn serve(stream: TcpStream, address: SocketAddr, state: &Mutex<State>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut stream = stream;
    while let Some(request) = read_request(&mut reader) {
        let mut state = state.lock().unwrap();
        state.requests.push(request.path.clone());
        let Some(keep) = answer(&mut stream, &request, address, &mut state) else { return };
        if !keep {
            return;
        }
    }
}

/// Answers; says whether the connection goes on, or `None` if it is gone.
fn answer(stream: &mut TcpStream, request: &Request, address: SocketAddr, state: &mut State) -> Option<bool> {
    let authorization = request.headers.get("authorization").map(String::as_str);
    let path = request.path.split('?').next()?;
    if let Some((_, status)) = state.manners.floods.filter(|(part, _)| path.contains(part)) {
        write!(stream, "HTTP/1.1 {status}\r\nTransfer-Encoding: chunked\r\n\r\n").ok()?;
        let chunk = vec![b' '; 1 << 20];
        loop {
            write!(stream, "{:x}\r\n", chunk.len()).ok()?;
            stream.write_all(&chunk).ok()?;
            stream.write_all(b"\r\n").ok()?;
        }
    }
    if path == "/token" {
        let known = state
            .manners
            .token_for
            .as_ref()
            .is_some_and(|user| authorization == Some(&format!("Basic {user}")));
        let (status, body) =
            if known { ("200 OK", r#"{"token":"T0KEN"}"#) } else { ("401 Unauthorized", "who are you") };
        return send(stream, status, "Content-Type: application/json\r\n", body.as_bytes());
    }
    let wanted = match (&state.manners.token_for, &state.manners.basic) {
        (Some(_), _) => Some((
            "Bearer T0KEN".to_owned(),
            format!("Bearer realm=\"http://{address}/token\",service=\"fake\""),
        )),
        (_, Some(user)) => Some((format!("Basic {user}"), "Basic realm=\"fake\"".to_owned())),
        _ => None,
    };
    if let Some((_, challenge)) = wanted.filter(|(wanted, _)| authorization != Some(wanted)) {
        let body = br#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}"#;
        return send(stream, "401 Unauthorized", &format!("WWW-Authenticate: {challenge}\r\n"), body);
    }
    if path == "/v2/" {
        return send(stream, "200 OK", "", b"{}");
    }
    let Some((media_type, bytes)) = state.content.get(path) else {
        let body = br#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#;
        return send(stream, "404 Not Found", "", body);
    };
    let mut bytes = bytes.clone();
    if state.manners.lies.is_some_and(|digest| path.ends_with(&digest.to_string())) {
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
    }
    let start = request.headers.get("range").filter(|_| !state.manners.ignores_ranges);
    let start: usize =
        start.and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()).unwrap_or(0);
    let status = if start > 0 { "206 Partial Content" } else { "200 OK" };
    let headers = format!("Content-Type: {media_type}\r\n");
    if path.contains("/blobs/") && bytes.len() > 1000 && state.manners.breaks > 0 {
        state.manners.breaks -= 1;
        let rest = &bytes[start..];
        write!(stream, "HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\n\r\n", rest.len()).ok()?;
        stream.write_all(&rest[..rest.len() / 2]).ok()?;
        return Some(false);
    }
    send(stream, status, &headers, &bytes[start..])
}

fn send(stream: &mut TcpStream, status: &str, headers: &str, body: &[u8]) -> Option<bool> {
    write!(stream, "HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\n\r\n", body.len()).ok()?;
    stream.write_all(body).ok()?;
    Some(true)
}
