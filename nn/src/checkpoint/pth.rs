//! `.pth` as torch has written it since 1.6: a zip of one pickle and one member per storage.

#![forbid(unsafe_code)]

use super::budget::Budget;
use super::entry::Entry;
use super::error::{ReadError, ReadErrorKind, quote};
use super::pickle;
use super::state_dict;
use super::zip::Archive;

pub(crate) fn parse<'f>(bytes: &'f [u8], budget: &mut Budget) -> Result<Vec<Entry<'f>>, ReadError> {
    let archive = Archive::open(bytes, budget)?;
    let root = root(&archive)?;
    if let Some(order) = archive.find([root, "/", "byteorder"])
        && order.data != b"little"
    {
        let found = String::from_utf8_lossy(&order.data[..order.data.len().min(16)]).into_owned();
        return Err(ReadError::new(ReadErrorKind::Unsupported, format!("the byte order is {}, expected \"little\"", quote(&found)))
            .entry(order.name)
            .at(order.at)
            .next("save it again on a little-endian machine"));
    }
    let Some(pickled) = archive.find([root, "/", "data.pkl"]) else {
        return Err(no_pickle(&archive));
    };
    let mut graph = pickle::read(pickled.data, pickled.at, budget)?;
    if graph.end != pickled.data.len() {
        return Err(ReadError::new(ReadErrorKind::Pickle, format!("{} bytes follow the pickle's STOP", pickled.data.len() - graph.end))
            .entry(pickled.name)
            .at(pickled.at + graph.end));
    }
    let storages = state_dict::storages(&graph, budget, |key, storage| {
        let Some(member) = archive.find([root, "/data/", key]) else {
            return Err(ReadError::new(
                ReadErrorKind::Tensor,
                format!("storage {} has no member {}", quote(key), quote(&format!("{root}/data/{key}"))),
            )
            .at(graph.place(storage.at)));
        };
        let expected = storage.elements.checked_mul(storage.dtype.size());
        if expected != Some(member.data.len()) {
            return Err(ReadError::new(
                ReadErrorKind::Tensor,
                format!("has {} bytes, the pickle says {} elements of {}", member.data.len(), storage.elements, storage.dtype.name()),
            )
            .entry(member.name)
            .at(member.at));
        }
        Ok((member.data, member.at))
    })?;
    state_dict::entries(&mut graph, &storages, budget)
}

/// The folder that all members lie in.
fn root<'f>(archive: &Archive<'f>) -> Result<&'f str, ReadError> {
    let mut root = None;
    for member in archive.members() {
        let (folder, rest) = member.name.split_once('/').unwrap_or((member.name, ""));
        if rest.is_empty() || root.is_some_and(|root| root != folder) {
            // Also where two folders would each have a data.pkl.
            let is_model = !member.name.ends_with(".pkl");
            return Err(ReadError::new(
                if is_model { ReadErrorKind::WrongFile } else { ReadErrorKind::Zip },
                format!("lies outside the archive's one folder, {}", quote(root.unwrap_or("(none)"))),
            )
            .entry(member.name)
            .at(member.at)
            .next("a .pth file has all its members in one folder; is this another kind of zip?"));
        }
        root = Some(folder);
    }
    root.ok_or_else(|| no_pickle(archive))
}

fn no_pickle(archive: &Archive<'_>) -> ReadError {
    let names: Vec<String> = archive.members().iter().take(4).map(|m| quote(m.name)).collect();
    ReadError::new(
        ReadErrorKind::WrongFile,
        format!(
            "a zip file of {} members without data.pkl: no .pth file (it begins with {})",
            archive.members().len(),
            if names.is_empty() { "nothing".to_string() } else { names.join(", ") }
        ),
    )
    .next("expected what torch.save(model.state_dict(), …) writes")
}
