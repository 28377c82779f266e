//! One request: what is asked of the server, what its answer means, and which failures may pass.

use super::part::Part;
use super::places::Places;
use super::table::Weights;
use crate::failure::Failure;
use crate::model::{human_bytes, read_at_most};
use std::io::{ErrorKind, Read};
use ureq::http::{HeaderMap, StatusCode, header};
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Body, BodyReader, Error, Proxy, Timeout};

/// The largest file of certificates that is read, in bytes.
const MAX_CERTIFICATES: u64 = 1 << 24;
/// Addresses in a row that refer to another.
const REDIRECTS: u32 = 5;

/// Why an attempt brought no whole file.
#[derive(Debug)]
pub(super) enum Stop {
    /// The next attempt may succeed.
    Passing(String),
    /// No server could be reached, or none answers as it should: the text says what was wrong.
    Lasting(String),
    /// Something on this machine.
    Here(Failure),
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Stop {
        Stop::Here(failure)
    }
}

/// Bytes that follow those of a part.
pub(super) struct Answer {
    /// The bytes.
    pub(super) bytes: BodyReader<'static>,
    /// Of the whole file, where the server tells.
    pub(super) total: Option<u64>,
}

/// What speaks to servers.
///
/// # Errors
/// [`Failure`] where the proxy or the certificates make no sense.
pub(super) fn agent(places: &Places) -> Result<Agent, Failure> {
    let patience = places.patience;
    let proxy = places.proxy.as_deref().map(Proxy::new).transpose();
    // Its address may hold a password: it is not repeated.
    let proxy = proxy.map_err(|_| Failure::usage("HTTPS_PROXY, HTTP_PROXY or ALL_PROXY names no proxy: expected http://HOST:PORT"))?;
    let mut config = Agent::config_builder()
        .http_status_as_error(false)
        // Bytes that were asked for by https come by https to the end.
        .https_only(places.base.starts_with("https:"))
        .max_redirects(REDIRECTS)
        .user_agent(concat!("nunatak/", env!("CARGO_PKG_VERSION")))
        .timeout_resolve(Some(patience.connect))
        .timeout_connect(Some(patience.connect))
        .timeout_send_request(Some(patience.silence))
        .timeout_recv_response(Some(patience.silence))
        .timeout_per_read(Some(patience.silence))
        .proxy(proxy);
    if let Some(path) = &places.certificates {
        config = config.tls_config(TlsConfig::builder().root_certs(certificates(path)?).build());
    }
    Ok(Agent::new_with_config(config.build()))
}

/// The certificates in a file.
fn certificates(path: &std::path::Path) -> Result<RootCerts, Failure> {
    let bytes = read_at_most(path, MAX_CERTIFICATES).map_err(|e| e.of("SSL_CERT_FILE"))?;
    let items: Result<Vec<_>, _> = parse_pem(&bytes).collect();
    let items = items.map_err(|e| Failure::with(format_args!("SSL_CERT_FILE: {}", path.display()), e))?;
    let found: Vec<_> = items.into_iter().filter_map(|item| if let PemItem::Certificate(one) = item { Some(one) } else { None }).collect();
    match found.is_empty() {
        true => Err(Failure::usage(format_args!("SSL_CERT_FILE: {} holds no certificate in PEM", path.display()))),
        false => Ok(RootCerts::new_with_certs(&found)),
    }
}

/// Asks for the bytes that `part` lacks. Where the server has another version of the file, or sends all of it, the part
/// begins anew.
pub(super) fn ask(agent: &Agent, address: &str, part: &mut Part, weights: &Weights) -> Result<Answer, Stop> {
    let mut request = agent.get(address).header(header::ACCEPT_ENCODING, "identity");
    if !part.is_empty() {
        request = request.header(header::RANGE, format!("bytes={}-", part.len()));
        if let Some(tag) = part.tag() {
            request = request.header(header::IF_RANGE, tag);
        }
    }
    let response = request.call().map_err(|e| stopped(&e))?;
    let (status, headers) = (response.status(), response.headers());
    if let Some(encoding) = headers.get(header::CONTENT_ENCODING).filter(|encoding| *encoding != "identity") {
        return Err(Stop::Lasting(format!("the server sends it packed ({encoding:?}), which was not asked for")));
    }
    let tag = text(headers, header::ETAG);
    let total = match status {
        StatusCode::OK => {
            part.begin(tag)?;
            response.body().content_length()
        }
        StatusCode::PARTIAL_CONTENT => {
            let sent = text(headers, header::CONTENT_RANGE).as_deref().and_then(content_range);
            let same = part.tag().is_none() || tag.is_none() || part.tag() == tag.as_deref();
            let Some((_, total)) = sent.filter(|(start, _)| *start == part.len() && same) else {
                part.begin(None)?;
                return Err(Stop::Passing("the server sent another part than was asked for".into()));
            };
            part.join();
            total
        }
        StatusCode::RANGE_NOT_SATISFIABLE if !part.is_empty() => {
            part.begin(None)?;
            return Err(Stop::Passing("the server's file is shorter than the part that is here".into()));
        }
        _ => return Err(refused(status)),
    };
    if let Some(total) = total.filter(|total| *total > weights.most_bytes()) {
        return Err(Stop::Lasting(too_large(&human_bytes(total as usize), weights)));
    }
    Ok(Answer { bytes: reader(response.into_body()), total })
}

/// The bytes of a body; how many there may be is for the caller to see to.
fn reader(body: Body) -> BodyReader<'static> {
    body.into_with_config().limit(u64::MAX).reader()
}

/// Reads some bytes; none at the end.
pub(super) fn read(from: &mut BodyReader, into: &mut [u8]) -> Result<usize, Stop> {
    loop {
        match from.read(into) {
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            read => return read.map_err(|e| stopped(&Error::from(e))),
        }
    }
}

/// What is said where a server offers more bytes than there can be.
pub(super) fn too_large(offered: &str, weights: &Weights) -> String {
    format!("the server sends {offered}, but {} has about {}", weights.file, human_bytes(weights.bytes as usize))
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_owned)
}

/// Where the bytes of `bytes START-END/TOTAL` begin, and the total, where it is told.
fn content_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let start = range.split_once('-')?.0.trim().parse().ok()?;
    Some((start, total.trim().parse().ok()))
}

/// What an answer without bytes means.
fn refused(status: StatusCode) -> Stop {
    let said = format!("the server answers {status}");
    let passes = [
        StatusCode::REQUEST_TIMEOUT,
        StatusCode::TOO_EARLY,
        StatusCode::TOO_MANY_REQUESTS,
        StatusCode::INTERNAL_SERVER_ERROR,
        StatusCode::BAD_GATEWAY,
        StatusCode::SERVICE_UNAVAILABLE,
        StatusCode::GATEWAY_TIMEOUT,
    ];
    if passes.contains(&status) { Stop::Passing(said) } else { Stop::Lasting(said) }
}

/// What an error means.
fn stopped(e: &Error) -> Stop {
    match e {
        Error::HostNotFound => Stop::Lasting("no connection (is there a network?): there is no server of this name".into()),
        Error::Timeout(Timeout::Connect | Timeout::Resolve) => Stop::Passing("no connection in time".into()),
        Error::Timeout(_) => Stop::Passing("nothing came for too long".into()),
        Error::Io(e) => match e.kind() {
            ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted | ErrorKind::BrokenPipe => {
                Stop::Passing(format!("the connection broke ({e})"))
            }
            ErrorKind::TimedOut | ErrorKind::WouldBlock => Stop::Passing("nothing came for too long".into()),
            ErrorKind::InvalidData => Stop::Lasting(untrusted(e)),
            _ => Stop::Lasting(format!("no connection (is there a network?): {e}")),
        },
        Error::Rustls(e) => Stop::Lasting(untrusted(e)),
        Error::Tls(e) => Stop::Lasting(untrusted(e)),
        Error::RequireHttpsOnly(_) => Stop::Lasting("the server refers to an address without https".into()),
        Error::TooManyRedirects => Stop::Lasting(format!("the server refers to other addresses more than {REDIRECTS} times")),
        Error::ConnectProxyFailed(why) => Stop::Lasting(format!("the proxy makes no connection: {why}")),
        Error::Protocol(e) => Stop::Passing(format!("the server's answer is no HTTP ({e})")),
        e => Stop::Lasting(e.to_string()),
    }
}

/// What is said where a connection is not secure.
fn untrusted(e: impl std::fmt::Display) -> String {
    format!(
        "the connection is not secure ({e}): if a proxy of your organisation reads connections, name its certificate with SSL_CERT_FILE"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read() {
        assert_eq!(content_range("bytes 5-9/10"), Some((5, Some(10))));
        assert_eq!(content_range("bytes 0-9/*"), Some((0, None)));
        for bad in ["", "bytes */10", "bytes 5/10", "5-9/10", "bytes -5-9/10", "bytes 18446744073709551616-9/10"] {
            assert_eq!(content_range(bad), None, "{bad}");
        }
    }

    #[test]
    fn certificates_are_read_from_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        std::fs::write(&path, "no certificate").unwrap();
        assert!(matches!(certificates(&path), Err(Failure::Usage(text)) if text.contains("SSL_CERT_FILE")));
        std::fs::write(&path, "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n").unwrap();
        assert!(certificates(&path).is_err());
        std::fs::write(&path, "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n").unwrap();
        assert!(matches!(certificates(&path), Ok(RootCerts::Specific(list)) if list.len() == 1));
        assert!(certificates(&folder.path().join("none")).unwrap_err().text().contains("SSL_CERT_FILE"));
    }
}
