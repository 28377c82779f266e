//! Where published weights lie on this machine and where they come from, as the environment says.
//!
//! | variable | what |
//! |---|---|
//! | `NUNATAK_CACHE` | the folder of files that were downloaded |
//! | `XDG_CACHE_HOME` | its parent, where the first is not set (Linux and the like) |
//! | `TORCH_HOME` | PyTorch's folder: what lies in `hub/checkpoints` there is used too, and never written |
//! | `NUNATAK_WEIGHTS_URL` | the address of a mirror, before the file's name |
//! | `NUNATAK_OFFLINE` | `1`: nothing is downloaded |
//! | `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY`, `NO_PROXY` | the way through a proxy |
//! | `SSL_CERT_FILE` | certificates (PEM) that are trusted instead of those that the program brings |

use super::table::Weights;
use crate::failure::Failure;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where torchvision's files lie.
pub const ADDRESS: &str = "https://download.pytorch.org/models/";

/// How long is waited, and how often tried.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For a connection.
    pub connect: Duration,
    /// For the next bytes.
    pub silence: Duration,
    /// Attempts in a row that bring less than [`Patience::PROGRESS`].
    pub attempts: u32,
    /// Before the second attempt; twice as long before each further one.
    pub pause: Duration,
}

impl Patience {
    /// Bytes after which attempts are counted anew.
    pub const PROGRESS: u64 = 1 << 20;
}

impl Default for Patience {
    fn default() -> Patience {
        Patience { connect: Duration::from_secs(20), silence: Duration::from_secs(30), attempts: 5, pause: Duration::from_secs(1) }
    }
}

/// Where weights are looked for, and where they come from.
#[derive(Clone, Debug)]
pub struct Places {
    /// The folder of files that were downloaded.
    pub cache: PathBuf,
    /// Folders of other programs, which are only read.
    pub others: Vec<PathBuf>,
    /// The address before a file's name; ends with a slash.
    pub base: String,
    /// Whether nothing may be downloaded.
    pub offline: bool,
    /// The proxy's address, where the way leads through one.
    pub proxy: Option<String>,
    /// The file of certificates that are trusted; those that the program brings where there is none.
    pub certificates: Option<PathBuf>,
    /// How long is waited.
    pub patience: Patience,
}

/// Looks up a variable; what is empty counts as not set.
type Look<'l> = &'l dyn Fn(&str) -> Option<OsString>;

impl Places {
    /// As the environment says.
    ///
    /// # Errors
    /// [`Failure`] where a variable makes no sense, or no folder can be found.
    pub fn from_environment() -> Result<Places, Failure> {
        Places::of(&|name| std::env::var_os(name).filter(|value| !value.is_empty()), std::env::home_dir())
    }

    /// As variables say.
    fn of(look: Look, home: Option<PathBuf>) -> Result<Places, Failure> {
        let home = home.filter(|home| home.is_absolute());
        let base = base(look)?;
        Ok(Places {
            cache: cache(look, home.as_deref())?,
            others: torch(look, home.as_deref()).into_iter().collect(),
            offline: look("NUNATAK_OFFLINE").is_some_and(|value| value != "0"),
            proxy: proxy(look, &base)?,
            base,
            certificates: look("SSL_CERT_FILE").map(PathBuf::from),
            patience: Patience::default(),
        })
    }

    /// Where a file of these weights is downloaded to.
    pub fn target(&self, weights: &Weights) -> PathBuf {
        self.cache.join(weights.file)
    }

    /// Where it is downloaded from.
    pub fn address(&self, weights: &Weights) -> String {
        format!("{}{}", self.base, weights.file)
    }

    /// What to do by hand where downloading does not go.
    pub fn by_hand(&self, weights: &Weights) -> String {
        format!(
            "have the file from {ADDRESS}{} by other means (its SHA-256 begins with {}) and put it at {}, or name it with its path",
            weights.file,
            &weights.hash[..super::table::IN_NAME],
            self.target(weights).display()
        )
    }
}

/// The folder of files that were downloaded.
fn cache(look: Look, home: Option<&Path>) -> Result<PathBuf, Failure> {
    if let Some(own) = look("NUNATAK_CACHE") {
        return Ok(PathBuf::from(own));
    }
    let of_home = |folder: &str| home.map(|home| home.join(folder));
    // The XDG specification: a path that is not absolute is to be ignored.
    let xdg = || look("XDG_CACHE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let parent = if cfg!(windows) {
        look("LOCALAPPDATA").map(PathBuf::from).or_else(|| of_home("AppData/Local"))
    } else if cfg!(target_os = "macos") {
        xdg().or_else(|| of_home("Library/Caches"))
    } else {
        xdg().or_else(|| of_home(".cache"))
    };
    let folder = if cfg!(windows) { "nunatak/cache" } else { "nunatak" };
    let lost = || Failure::Failed("there is no home folder to keep weights in: name a folder with NUNATAK_CACHE".into());
    parent.map(|parent| parent.join(folder)).ok_or_else(lost)
}

/// The folder in which PyTorch keeps what it has downloaded: the rules are those of `torch.hub`, the same on every system.
fn torch(look: Look, home: Option<&Path>) -> Option<PathBuf> {
    let parent = || look("XDG_CACHE_HOME").map(PathBuf::from).or_else(|| Some(home?.join(".cache")));
    let torch = look("TORCH_HOME").map(PathBuf::from).or_else(|| Some(parent()?.join("torch")))?;
    Some(torch.join("hub").join("checkpoints"))
}

/// The address before a file's name.
fn base(look: Look) -> Result<String, Failure> {
    let Some(mirror) = look("NUNATAK_WEIGHTS_URL") else { return Ok(ADDRESS.into()) };
    let text = mirror.to_string_lossy();
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let host = rest.and_then(|rest| rest.split('/').next()).filter(|host| !host.is_empty() && !host.contains('@'));
    let plain = text.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'?' | b'#'));
    if host.is_none() || !plain {
        return Err(Failure::usage(format_args!(
            "NUNATAK_WEIGHTS_URL={}: expected the address of a folder that begins with https:// or http://, without a user, `?` and `#`",
            crate::output::printable(&text)
        )));
    }
    Ok(format!("{}/", text.trim_end_matches('/')))
}

/// The proxy for an address, by curl's rules: the variable of the address's kind before `ALL_PROXY`; small letters count
/// too; `NO_PROXY` names hosts, and domains with all hosts below them.
fn proxy(look: Look, base: &str) -> Result<Option<String>, Failure> {
    let own = if base.starts_with("https:") { ["https_proxy", "HTTPS_PROXY"] } else { ["http_proxy", "HTTP_PROXY"] };
    let found = own.into_iter().chain(["all_proxy", "ALL_PROXY"]).find_map(|name| Some((name, look(name)?)));
    let Some((name, value)) = found else { return Ok(None) };
    let excepted = look("no_proxy").or_else(|| look("NO_PROXY")).unwrap_or_default();
    if is_excepted(host(base), &excepted.to_string_lossy()) {
        return Ok(None);
    }
    let value = value.to_string_lossy().into_owned();
    // A proxy's address may hold a password: it is not repeated.
    if value.split("://").next().is_some_and(|kind| kind.to_ascii_lowercase().starts_with("socks")) {
        return Err(Failure::usage(format_args!("{name} names a SOCKS proxy, which nunatak can't use: expected http:// or https://")));
    }
    Ok(Some(value))
}

/// The host in an address, without its port.
fn host(address: &str) -> &str {
    let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
    let place = rest.split('/').next().unwrap_or_default();
    match place.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((of_v6, _)) => of_v6,
        None => place.rsplit_once(':').map_or(place, |(host, _)| host),
    }
}

/// Whether `NO_PROXY` names a host.
fn is_excepted(host: &str, list: &str) -> bool {
    let host = host.to_ascii_lowercase();
    list.split(|c: char| c == ',' || c.is_whitespace()).filter(|entry| !entry.is_empty()).any(|entry| {
        let entry = entry.to_ascii_lowercase();
        let domain = entry.trim_start_matches('*').trim_start_matches('.').trim_matches(['[', ']']);
        entry == "*" || !domain.is_empty() && (host == domain || host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.')))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(variables: &[(&str, &str)]) -> Result<Places, Failure> {
        let home = if cfg!(windows) { "C:/home" } else { "/home" };
        let look = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(value));
        Places::of(&look, Some(home.into()))
    }

    #[test]
    fn folders_are_those_that_the_system_has_for_it() {
        let places = of(&[]).unwrap();
        assert_eq!((places.base.as_str(), places.offline, places.proxy), (ADDRESS, false, None));
        assert_eq!(of(&[("NUNATAK_CACHE", "own"), ("XDG_CACHE_HOME", "/x")]).unwrap().cache, Path::new("own"));
        assert!(Places::of(&|_| None, None).unwrap_err().text().contains("NUNATAK_CACHE"));
        assert!(Places::of(&|_| None, Some("relative".into())).is_err());
        #[cfg(target_os = "linux")]
        {
            assert_eq!(places.cache, Path::new("/home/.cache/nunatak"));
            assert_eq!(places.others, [Path::new("/home/.cache/torch/hub/checkpoints")]);
            let places = of(&[("XDG_CACHE_HOME", "/x")]).unwrap();
            assert_eq!(places.cache, Path::new("/x/nunatak"));
            assert_eq!(places.others, [Path::new("/x/torch/hub/checkpoints")]);
            assert_eq!(of(&[("XDG_CACHE_HOME", "x")]).unwrap().cache, Path::new("/home/.cache/nunatak"));
        }
        assert_eq!(of(&[("TORCH_HOME", "/t")]).unwrap().others, [Path::new("/t").join("hub").join("checkpoints")]);
        assert!(of(&[("NUNATAK_OFFLINE", "1")]).unwrap().offline && !of(&[("NUNATAK_OFFLINE", "0")]).unwrap().offline);
    }

    #[test]
    fn mirrors_are_addresses_of_folders() {
        for good in ["http://localhost:80/a", "https://m.example/a/", "https://m.example"] {
            let base = of(&[("NUNATAK_WEIGHTS_URL", good)]).unwrap().base;
            assert_eq!(base, format!("{}/", good.trim_end_matches('/')));
        }
        for bad in
            ["m.example", "file:///a", "https://", "https:///a", "http://u:p@m.example/", "http://m/?a", "http://m/ a", "http://m/\n"]
        {
            let failure = of(&[("NUNATAK_WEIGHTS_URL", bad)]).unwrap_err();
            assert!(matches!(failure, Failure::Usage(text) if text.contains("NUNATAK_WEIGHTS_URL")), "{bad}");
        }
    }

    #[test]
    fn proxies_are_found_by_curls_rules() {
        let proxy = |variables: &[(&str, &str)]| of(variables).unwrap().proxy;
        let mirror = ("NUNATAK_WEIGHTS_URL", "http://m.example:80/a");
        assert_eq!(proxy(&[("HTTPS_PROXY", "a"), ("ALL_PROXY", "b"), ("HTTP_PROXY", "c")]).as_deref(), Some("a"));
        assert_eq!(proxy(&[("ALL_PROXY", "b"), ("HTTP_PROXY", "c")]).as_deref(), Some("b"));
        assert_eq!(proxy(&[("HTTPS_PROXY", "a"), ("http_proxy", "c"), mirror]).as_deref(), Some("c"));
        assert_eq!(proxy(&[("HTTPS_PROXY", "a"), mirror]), None);
        for all in ["*", "pytorch.org", ".org", "*.pytorch.org", "x, download.PyTorch.org"] {
            assert_eq!(proxy(&[("HTTPS_PROXY", "a"), ("NO_PROXY", all)]), None, "{all}");
        }
        for other in ["", ",", "torch.org", "load.pytorch.org", "example"] {
            assert!(proxy(&[("HTTPS_PROXY", "a"), ("NO_PROXY", other)]).is_some(), "{other}");
        }
        let failure = of(&[("ALL_PROXY", "socks5h://user:secret@p:1080")]).unwrap_err().text();
        assert!(failure.contains("ALL_PROXY") && !failure.contains("secret"), "{failure}");
        assert_eq!([host("http://[::1]:80/a"), host("https://a:1/b"), host("a")], ["::1", "a", "a"]);
    }
}
