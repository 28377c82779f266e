//! `.pth` as torch has written it since 1.6: a zip of one pickle and one member per storage.

#![forbid(unsafe_code)]

use super::dicts::{self, Dict};
use super::pickle;
use super::write::METADATA;
use super::zip::{Archive, Member};
use crate::files::budget::Budget;
use crate::files::error::{ReadError, ReadErrorKind, quote};
use crate::files::safetensors::read_object;
use std::collections::BTreeMap;

pub(crate) type Parsed<'f> = (Vec<Dict<'f>>, BTreeMap<String, String>);

pub(crate) fn parse<'f>(bytes: &'f [u8], budget: &mut Budget) -> Result<Parsed<'f>, ReadError> {
    let archive = Archive::open(bytes, budget)?;
    let root = root(&archive)?;
    if let Some(order) = archive.find([root, "/", "byteorder"])
        && let text = unpacked(order, budget)?
        && text != b"little"
    {
        let found = String::from_utf8_lossy(&text[..text.len().min(16)]).into_owned();
        return Err(ReadError::new(ReadErrorKind::Unsupported, format!("the byte order is {}, expected \"little\"", quote(&found)))
            .entry(order.name)
            .at(order.at)
            .next("save it again on a little-endian machine"));
    }
    let Some(pickled) = archive.find([root, "/", "data.pkl"]) else {
        return Err(no_pickle(&archive));
    };
    let text = unpacked(pickled, budget)?;
    let mut graph = pickle::read(text, pickled.at, budget)?;
    if graph.end != text.len() {
        return Err(ReadError::new(ReadErrorKind::Pickle, format!("{} bytes follow the pickle's STOP", text.len() - graph.end))
            .entry(pickled.name)
            .at(pickled.at + graph.end));
    }
    let storages = dicts::storages(&graph, budget, |key, storage| {
        let Some(member) = archive.find([root, "/data/", key]) else {
            return Err(ReadError::new(
                ReadErrorKind::Tensor,
                format!("storage {} has no member {}", quote(key), quote(&format!("{root}/data/{key}"))),
            )
            .at(graph.place(storage.at)));
        };
        let expected = storage.dtype.bytes(storage.elements);
        if expected != Some(member.data.len()) {
            return Err(ReadError::new(
                ReadErrorKind::Tensor,
                format!("has {} bytes, the pickle says {} elements of {}", member.data.len(), storage.elements, storage.dtype.name()),
            )
            .entry(member.name)
            .at(member.at));
        }
        Ok((member.data.clone(), member.at))
    })?;
    let dicts = dicts::dicts(&mut graph, &storages, budget)?;
    Ok((dicts, metadata(&archive, root, budget)?))
}

/// What [`write_pth`](crate::files::write_pth()) was given besides the tensors.
fn metadata(archive: &Archive<'_>, root: &str, budget: &mut Budget) -> Result<BTreeMap<String, String>, ReadError> {
    let Some(member) = archive.find([root, "/", METADATA]) else { return Ok(BTreeMap::new()) };
    let malformed =
        |what: &str| ReadError::new(ReadErrorKind::Zip, format!("the metadata are malformed: {what}")).entry(member.name).at(member.at);
    let text = std::str::from_utf8(unpacked(member, budget)?).map_err(|_| malformed("they are not UTF-8"))?;
    read_object(text, budget).map_err(|e| malformed(&e.to_string()))
}

/// The bytes of a member that is always needed; counted, if they had to be unpacked.
fn unpacked<'a>(member: &'a Member<'_>, budget: &mut Budget) -> Result<&'a [u8], ReadError> {
    if member.data.ready().is_none() {
        budget.take(member.data.len())?;
    }
    member.data.get()
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
