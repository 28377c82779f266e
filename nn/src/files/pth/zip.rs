//! The zip walk under the `.pth` reader: every byte up to the end record belongs to exactly one part.
//!
//! ```text
//! local header | payload | descriptor?   once per member, without gaps, from byte 0
//! central directory                      one record per member, agreeing with the local header
//! zip64 end record, locator?             torch always writes them
//! end record                             a comment and other bytes may follow it
//! ```
//! Zip at large allows gaps, two opinions on a name and more; two readers then see two different
//! files. PyTorch writes none of that, so here it is an error. What it reads is read here too: members
//! that another program has deflated, entries of folders, bytes after the end. Sizes stand in the central
//! directory only: torch streams, so its local headers carry zeros (flag bit 3) and a descriptor
//! follows each payload. Layout: PKWARE's APPNOTE.TXT 6.3, sections 4.3 and 4.5.3.

#![forbid(unsafe_code)]

use super::payload::Payload;
use crate::files::budget::{self, Budget};
use crate::files::bytes::{range, u16_at, u32_at, u64_at};
use crate::files::error::{ReadError, ReadErrorKind, quote};

const END: &[u8] = b"PK\x05\x06";
const END_LEN: usize = 22;
const END64: &[u8] = b"PK\x06\x06";
const END64_LEN: usize = 56;
const LOCATOR: &[u8] = b"PK\x06\x07";
const LOCATOR_LEN: usize = 20;
const CENTRAL: &[u8] = b"PK\x01\x02";
const CENTRAL_LEN: usize = 46;
const LOCAL: &[u8] = b"PK\x03\x04";
const LOCAL_LEN: usize = 30;
const DESCRIPTOR: &[u8] = b"PK\x07\x08";

const ENCRYPTED: u16 = 1;
/// Sizes follow the payload.
const STREAMED: u16 = 1 << 3;
const UTF8: u16 = 1 << 11;

/// How strongly a member was deflated.
const STRENGTH: u16 = 3 << 1;
const DEFLATED: u16 = 8;

/// The bit of a folder among a member's attributes.
const FOLDER: u32 = 1 << 4;

/// How far from the end PyTorch looks for the end record.
const END_WINDOW: usize = 0xffff;

const NAME_MAX: usize = 1024;

/// One file in the archive.
pub(crate) struct Member<'f> {
    pub(crate) name: &'f str,
    pub(crate) data: Payload<'f>,
    /// Where it begins in the file.
    pub(crate) at: usize,
}

/// A zip file that has been walked and whose checksums hold.
pub(crate) struct Archive<'f> {
    members: Vec<Member<'f>>,
    by_name: Vec<u32>,
}

/// What the central directory says about a member.
struct Record<'f> {
    /// Of a folder without the slash at its end.
    name: &'f str,
    folder: bool,
    header: usize,
    /// Bytes in the archive, and when unpacked.
    packed: u64,
    size: u64,
    crc: u32,
    flags: u16,
    method: u16,
    time: u32,
}

impl<'f> Archive<'f> {
    pub(crate) fn open(bytes: &'f [u8], budget: &mut Budget) -> Result<Self, ReadError> {
        let directory = end_record(bytes)?;
        let records = central_directory(bytes, &directory)?;
        let members = local_parts(bytes, &records, directory.at, budget)?;
        drop(records);
        let mut by_name = Vec::new();
        budget.reserve(&mut by_name, members.len())?;
        by_name.extend(0..members.len() as u32);
        by_name.sort_unstable_by_key(|&i| members[i as usize].name);
        for pair in by_name.windows(2) {
            let (a, b) = (&members[pair[0] as usize], &members[pair[1] as usize]);
            if a.name == b.name {
                return Err(zip("two members have this name").entry(a.name).at(a.at.max(b.at)));
            }
        }
        Ok(Self { members, by_name })
    }

    /// Members in the order in which they lie.
    pub(crate) fn members(&self) -> &[Member<'f>] {
        &self.members
    }

    /// The member whose name is `parts`, one after the other.
    pub(crate) fn find(&self, parts: [&str; 3]) -> Option<&Member<'f>> {
        let wanted = || parts.iter().flat_map(|part| part.bytes());
        let found = self.by_name.binary_search_by(|&i| self.members[i as usize].name.bytes().cmp(wanted())).ok()?;
        self.members.get(self.by_name[found] as usize)
    }
}

fn zip(what: impl Into<String>) -> ReadError {
    ReadError::new(ReadErrorKind::Zip, what)
}

fn unsupported(what: impl Into<String>) -> ReadError {
    ReadError::new(ReadErrorKind::Unsupported, what).next("save it again with torch.save")
}

struct Directory {
    at: usize,
    end: usize,
    count: u64,
}

/// Reads the last end record, and the zip64 records before it.
fn end_record(bytes: &[u8]) -> Result<Directory, ReadError> {
    let window = bytes.len().saturating_sub(END_LEN + END_WINDOW);
    let last = bytes.len().checked_sub(END_LEN);
    let Some(at) = last.and_then(|last| bytes[window..last + END.len()].windows(END.len()).rposition(|four| four == END)) else {
        return Err(ReadError::new(
            ReadErrorKind::Truncated,
            format!("a zip file of {} bytes without an end record: its end is missing", bytes.len()),
        )
        .next("download or save it again"));
    };
    let at = window + at;
    let short = |offset| u64::from(u16_at(bytes, at + offset).unwrap_or(0));
    let long = |offset| u64::from(u32_at(bytes, at + offset).unwrap_or(0));
    let small = [short(4), short(6), short(8), short(10), long(12), long(16)];
    let full = [0xffff, 0xffff, 0xffff, 0xffff, 0xffff_ffff, 0xffff_ffff];
    let names = ["disk", "directory disk", "entries here", "entries", "directory size", "directory offset"];

    let (numbers, end) = match end_record_64(bytes, at)? {
        None => {
            if let Some(i) = (0..6).find(|&i| small[i] == full[i]) {
                return Err(zip(format!(
                    "the end record's {} is {:#x}, which refers to a zip64 record that is not there",
                    names[i], small[i]
                ))
                .at(at));
            }
            (small, at)
        }
        Some((big, end)) => {
            for i in 0..6 {
                if small[i] != big[i] && small[i] != full[i] {
                    return Err(zip(format!("{}: the zip64 end record says {}, the end record {}", names[i], big[i], small[i])).at(at));
                }
            }
            (big, end)
        }
    };
    let [disk, first_disk, here, count, size, start] = numbers;
    if disk != 0 || first_disk != 0 || here != count {
        return Err(
            zip(format!("an archive of several disks (disk {disk}, directory on {first_disk}, {here} of {count} entries here)")).at(at)
        );
    }
    if start.checked_add(size) != Some(end as u64) {
        return Err(zip(format!("the central directory is said to take {size} bytes from byte {start}, but must end at byte {end}"))
            .at(at)
            .next("bytes before, between or after the parts of the archive are not accepted"));
    }
    // `start <= end`, a place in the file, so it fits.
    Ok(Directory { at: start as usize, end, count })
}

/// The six numbers of the zip64 end record and its place, if there is one before the end record.
fn end_record_64(bytes: &[u8], end: usize) -> Result<Option<([u64; 6], usize)>, ReadError> {
    let Some(locator) = end.checked_sub(LOCATOR_LEN).filter(|&at| bytes[at..].starts_with(LOCATOR)) else {
        return Ok(None);
    };
    let record = locator.checked_sub(END64_LEN).filter(|&at| bytes[at..].starts_with(END64));
    let Some(record) = record else {
        return Err(zip("a zip64 locator without a zip64 end record before it").at(locator));
    };
    let (disk, at, disks) = (u32_at(bytes, locator + 4), u64_at(bytes, locator + 8), u32_at(bytes, locator + 16));
    if (disk, at, disks) != (Some(0), Some(record as u64), Some(1)) {
        return Err(zip(format!(
            "the zip64 locator points to byte {} on disk {} of {}, expected byte {record} on disk 0 of 1",
            at.unwrap_or(0),
            disk.unwrap_or(0),
            disks.unwrap_or(0)
        ))
        .at(locator));
    }
    let long = |offset| u64_at(bytes, record + offset).unwrap_or(0);
    if long(4) != END64_LEN as u64 - 12 {
        return Err(zip(format!("the zip64 end record has {} bytes, expected 44", long(4))).at(record));
    }
    let disk = |offset| u64::from(u32_at(bytes, record + offset).unwrap_or(0));
    Ok(Some(([disk(16), disk(20), long(24), long(32), long(40), long(48)], record)))
}

fn central_directory<'f>(bytes: &'f [u8], dir: &Directory) -> Result<Vec<Record<'f>>, ReadError> {
    let room = (dir.end - dir.at) / CENTRAL_LEN;
    let count = usize::try_from(dir.count).ok().filter(|&n| n <= room && n <= u32::MAX as usize);
    let Some(count) = count else {
        return Err(zip(format!("{} entries are announced, the central directory has room for {room}", dir.count)).at(dir.at));
    };
    // At most 72 bytes for each 46 in the directory; no member is smaller than 76 in all.
    let mut records = Vec::new();
    records.try_reserve_exact(count).map_err(|_| budget::no_memory(count, size_of::<Record<'_>>()))?;
    let bytes = &bytes[..dir.end];
    let mut at = dir.at;
    for i in 0..count {
        let (record, next) = central_record(bytes, at)
            .ok_or_else(|| zip(format!("entry {i} of {count} in the central directory is cut or is none")).at(at))??;
        records.push(record);
        at = next;
    }
    if at != dir.end {
        return Err(zip(format!("the central directory has {} bytes more than its {count} entries", dir.end - at)).at(at));
    }
    Ok(records)
}

/// One record and the place after it; `None` where the bytes end or the signature is missing.
fn central_record(bytes: &[u8], at: usize) -> Option<Result<(Record<'_>, usize), ReadError>> {
    if !bytes.get(at..)?.starts_with(CENTRAL) {
        return None;
    }
    let flags = u16_at(bytes, at + 8)?;
    let method = u16_at(bytes, at + 10)?;
    let time = u32_at(bytes, at + 12)?;
    let crc = u32_at(bytes, at + 16)?;
    let packed = u32_at(bytes, at + 20)?;
    let plain = u32_at(bytes, at + 24)?;
    let name_len = usize::from(u16_at(bytes, at + 28)?);
    let extra_len = usize::from(u16_at(bytes, at + 30)?);
    let comment_len = usize::from(u16_at(bytes, at + 32)?);
    let disk = u16_at(bytes, at + 34)?;
    let attributes = u32_at(bytes, at + 38)?;
    let header = u32_at(bytes, at + 42)?;
    let raw = range(bytes, at + CENTRAL_LEN, name_len as u64)?;
    let extra = range(bytes, at + CENTRAL_LEN + name_len, extra_len as u64)?;
    let next = at + CENTRAL_LEN + name_len + extra_len + comment_len;
    range(bytes, next, 0)?;
    Some((|| {
        let folder = raw.last() == Some(&b'/');
        let name = member_name(raw.strip_suffix(b"/").unwrap_or(raw)).map_err(|e| e.at(at + CENTRAL_LEN))?;
        let fail = |e: ReadError| e.entry(name).at(at);
        // Its code is deflated, so this has to come before the method is refused.
        if is_torchscript(name) {
            return Err(ReadError::new(ReadErrorKind::WrongFile, "this is a TorchScript program (torch.jit.save)")
                .entry(name)
                .at(at)
                .next("load it with torch.jit.load and torch.save its state_dict()"));
        }
        if flags & ENCRYPTED != 0 {
            return Err(fail(unsupported("is encrypted")));
        }
        if method != 0 && method != DEFLATED {
            return Err(fail(unsupported(format!("is packed with method {method}, which is neither stored nor deflated"))));
        }
        if flags & !(STREAMED | UTF8 | if method == DEFLATED { STRENGTH } else { 0 }) != 0 {
            return Err(fail(unsupported(format!("has the unknown flags {flags:#06x}"))));
        }
        if disk != 0 {
            return Err(fail(zip(format!("lies on disk {disk}, expected 0"))));
        }
        let mut wide = Zip64::of(extra).map_err(fail)?;
        let plain = wide.widen(plain, "size").map_err(fail)?;
        let packed = wide.widen(packed, "packed size").map_err(fail)?;
        let header = wide.widen(header, "offset").map_err(fail)?;
        if method == 0 && packed != plain {
            return Err(fail(zip(format!("is stored, yet has packed size {packed} and size {plain}"))));
        }
        if (folder || attributes & FOLDER != 0) && plain != 0 {
            return Err(fail(zip(format!("is marked as a folder, yet holds {plain} bytes"))));
        }
        let header = usize::try_from(header)
            .ok()
            .filter(|&h| h < bytes.len())
            .ok_or_else(|| fail(zip(format!("its offset {header} lies past the end, {}", bytes.len()))))?;
        Ok((Record { name, folder, header, packed, size: plain, crc, flags, method, time }, next))
    })())
}

/// TorchScript's archives are those of torch.save and a few members more.
fn is_torchscript(name: &str) -> bool {
    name.split_once('/').is_some_and(|(_, rest)| rest == "constants.pkl" || rest.starts_with("code/"))
}

/// A name that is one relative path, with nothing for a file system or a terminal to trip over.
fn member_name(raw: &[u8]) -> Result<&str, ReadError> {
    let name = std::str::from_utf8(raw)
        .map_err(|_| zip(format!("{}: a member's name is not UTF-8", quote(&String::from_utf8_lossy(&raw[..raw.len().min(80)])))))?;
    let why = if name.len() > NAME_MAX {
        "is longer than 1024 bytes"
    } else if name.starts_with('/') || name.contains([':', '\\']) {
        "is an absolute or foreign path"
    } else if name.contains(char::is_control) {
        "contains a control character"
    } else if name.split('/').any(|part| matches!(part, "" | "." | "..")) {
        "has an empty, `.` or `..` part"
    } else {
        return Ok(name);
    };
    Err(zip(format!("a member's name {why}")).entry(name))
}

/// The 64-bit numbers in extra field 1, handed out in their fixed order.
struct Zip64<'f> {
    rest: &'f [u8],
}

impl<'f> Zip64<'f> {
    fn of(mut extra: &'f [u8]) -> Result<Self, ReadError> {
        let mut found = None;
        while !extra.is_empty() {
            let field = u16_at(extra, 0).zip(u16_at(extra, 2));
            let body = field.and_then(|(id, len)| Some((id, range(extra, 4, len.into())?)));
            let Some((id, body)) = body else {
                return Err(zip("has a cut extra field"));
            };
            if id == 1 && found.replace(body).is_some() {
                return Err(zip("has two zip64 extra fields"));
            }
            extra = &extra[4 + body.len()..];
        }
        Ok(Self { rest: found.unwrap_or(&[]) })
    }

    fn widen(&mut self, small: u32, what: &str) -> Result<u64, ReadError> {
        if small != u32::MAX {
            return Ok(small.into());
        }
        let Some(big) = u64_at(self.rest, 0) else {
            return Err(zip(format!("its {what} is 0xffffffff, but no zip64 field gives the real one")));
        };
        self.rest = &self.rest[8..];
        Ok(big)
    }
}

/// Walks the members in the order in which they lie, and checks that they fill `0 .. directory`. Folders are
/// walked and left out.
fn local_parts<'f>(bytes: &'f [u8], records: &[Record<'f>], directory: usize, budget: &mut Budget) -> Result<Vec<Member<'f>>, ReadError> {
    let mut order: Vec<u32> = Vec::new();
    budget.reserve(&mut order, records.len())?;
    order.extend(0..records.len() as u32);
    order.sort_unstable_by_key(|&i| records[i as usize].header);
    let mut members: Vec<Member<'f>> = Vec::new();
    members.try_reserve_exact(records.len()).map_err(|_| budget::no_memory(records.len(), size_of::<Member<'_>>()))?;
    // Each part is walked to where the next begins, so an overlap shows as a payload or header cut
    // short, a gap as bytes left over; only what lies before the first is seen by none.
    let first = order.first().map_or(directory, |&i| records[i as usize].header);
    if first != 0 {
        return Err(zip(format!("{first} bytes before the first part belong to no member")).at(0));
    }
    for (i, &index) in order.iter().enumerate() {
        let record = &records[index as usize];
        let end = order.get(i + 1).map_or(directory, |&next| records[next as usize].header);
        let (at, data) = local_part(bytes, record, end)?;
        if !record.folder {
            let data = match record.method {
                DEFLATED => {
                    // Its name and the state of unpacking.
                    budget.take(record.name.len() + 160)?;
                    Payload::deflated(data, usize::try_from(record.size).unwrap_or(usize::MAX), record.crc, record.name, at)
                }
                _ => Payload::Plain(data),
            };
            members.push(Member { name: record.name, data, at });
        }
    }
    budget.give(order.capacity() * size_of::<u32>());
    Ok(members)
}

/// The payload of one member, which has to fill the bytes up to `end`.
fn local_part<'f>(bytes: &'f [u8], record: &Record<'_>, end: usize) -> Result<(usize, &'f [u8]), ReadError> {
    let at = record.header;
    let fail = |what: String| zip(what).entry(record.name).at(at);
    let part = bytes.get(..end).unwrap_or(bytes);
    let header = part.get(at..).and_then(|rest| rest.get(..LOCAL_LEN)).filter(|h| h.starts_with(LOCAL));
    let Some(header) = header else {
        return Err(fail(format!("no local header before byte {end}, where the next part begins")));
    };
    let short = |offset| u16_at(header, offset).unwrap_or(0);
    let long = |offset| u32_at(header, offset).unwrap_or(0);
    let name_len = usize::from(short(26));
    let name = range(part, at + LOCAL_LEN, name_len as u64);
    let bare = name.map(|name| if record.folder { name.strip_suffix(b"/").unwrap_or(name) } else { name });
    if bare != Some(record.name.as_bytes()) {
        let name = String::from_utf8_lossy(name.unwrap_or_default()).into_owned();
        return Err(fail(format!("the local header has another name, {}", quote(&name))));
    }
    if short(6) != record.flags || short(8) != record.method || long(10) != record.time {
        return Err(fail(format!(
            "the local header has flags {:#06x}, method {}, time {:#x}, the central directory {:#06x}, {}, {:#x}",
            short(6),
            short(8),
            long(10),
            record.flags,
            record.method,
            record.time
        )));
    }
    let extra_at = at + LOCAL_LEN + name_len;
    let Some(extra) = range(part, extra_at, short(28).into()) else {
        return Err(fail("the local header runs into the next part".into()));
    };
    let data_at = extra_at + extra.len();
    let Some(data) = range(part, data_at, record.packed) else {
        return Err(fail(format!("has {} bytes from byte {data_at}, but the next part begins at byte {end}", record.packed)));
    };
    let streamed = record.flags & STREAMED != 0;
    let stated = [long(14), long(18), long(22)];
    if !(streamed && stated == [0; 3]) {
        let mut wide = Zip64::of(extra).map_err(|e| e.entry(record.name).at(at))?;
        let plain = wide.widen(stated[2], "local size").map_err(|e| e.entry(record.name).at(at))?;
        let packed = wide.widen(stated[1], "local size").map_err(|e| e.entry(record.name).at(at))?;
        if (stated[0], packed, plain) != (record.crc, record.packed, record.size) {
            return Err(fail(format!(
                "the local header has CRC {:#010x}, sizes {packed} and {plain}, the central directory {:#010x}, {} and {}",
                stated[0], record.crc, record.packed, record.size
            )));
        }
    }
    let rest = &part[data_at + data.len()..];
    if !(if streamed { is_descriptor(rest, record) } else { rest.is_empty() }) {
        return Err(fail(format!(
            "{} bytes follow its payload, expected {}",
            rest.len(),
            if streamed { "a descriptor that repeats its CRC and sizes" } else { "the next part" }
        ))
        .at(data_at + data.len()));
    }
    if record.method == DEFLATED {
        return Ok((data_at, data)); // the checksum is of the unpacked bytes
    }
    let crc = crc32fast::hash(data);
    if crc != record.crc {
        return Err(fail(format!("its bytes have CRC {crc:#010x}, expected {:#010x}: they are damaged", record.crc))
            .at(data_at)
            .next("download or save it again"));
    }
    Ok((data_at, data))
}

/// Whether bytes are the descriptor that follows a streamed member: with or without a signature, with sizes of
/// four or eight bytes.
fn is_descriptor(bytes: &[u8], record: &Record<'_>) -> bool {
    let body = match bytes.len() {
        16 | 24 => bytes.strip_prefix(DESCRIPTOR),
        12 | 20 => Some(bytes),
        _ => None,
    };
    let Some(body) = body else { return false };
    let sizes = match body.len() {
        12 => u32_at(body, 4).map(u64::from).zip(u32_at(body, 8).map(u64::from)),
        _ => u64_at(body, 4).zip(u64_at(body, 12)),
    };
    u32_at(body, 0) == Some(record.crc) && sizes == Some((record.packed, record.size))
}
