//! BAD_INPUTS.md, "zip / .pth" and wrong files: a test for each row.

use crate::support::{Member, Zip, dict_of, golden, good, int, ints, member, one_tensor, pickled, pth, read_all, rebuild};
use crate::support::{floats_of, refused, refused_with, safetensors, storage, text};
use nunatak_nn::files::Checkpoint;

/// The good file after a change.
fn with(change: impl FnOnce(&mut Zip)) -> Vec<u8> {
    let mut zip = good();
    change(&mut zip);
    zip.build()
}

/// The good file after a change to the member that holds the tensor.
fn with_data(change: impl FnOnce(&mut Member)) -> Vec<u8> {
    with(|zip| change(&mut zip.members[2]))
}

#[test]
fn the_good_file_is_good() {
    assert_eq!(read_all(&good().build()).unwrap(), 1);
    let streamed = with(|zip| zip.members.iter_mut().for_each(|m| m.streamed = true));
    assert_eq!(read_all(&streamed).unwrap(), 1);
    assert_eq!(read_all(&with(|zip| zip.zip64 = Some([None; 3]))).unwrap(), 1);
    assert_eq!(read_all(&with(|zip| zip.members.reverse())).unwrap(), 1);
}

#[test]
fn empty_and_every_prefix() {
    refused_with(&[], &["empty"]);
    for file in [good().build(), with(|zip| zip.zip64 = Some([None; 3]))] {
        for len in 0..file.len() {
            refused(&file[..len]);
        }
    }
    let file = good().build();
    refused_with(&file[..file.len() / 2], &["its end is missing", "download"]);
}

#[test]
fn no_or_two_end_records_and_comments() {
    let file = good().build();
    let end = file.len() - 22;
    refused_with(&file[..end], &["without an end record"]);
    refused_with(&[&file[..], &file[end..]].concat(), &["central directory"]);
    assert_eq!(read_all(&with(|zip| zip.comment = b"hello".to_vec())).unwrap(), 1);
    // A whole end record inside the comment, so that a search from behind finds it first.
    refused_with(&with(|zip| zip.comment = file[end..].to_vec()), &["central directory"]);
    // Too near to the end to be one.
    assert_eq!(read_all(&with(|zip| zip.comment = b"PK\x05\x06".to_vec())).unwrap(), 1);
    for more in [1, 4, 65_535] {
        assert_eq!(read_all(&[&file[..], &vec![b'x'; more]].concat()).unwrap(), 1, "{more}");
    }
    refused_with(&[&file[..], &vec![b'x'; 65_536]].concat(), &["without an end record"]);
    refused_with(b"PK\x05\x06\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", &["0 members", "data.pkl"]);
}

#[test]
fn counts_sizes_and_zip64_sentinels_of_the_end_record() {
    for n in [0, 1, 3, 5, 0xfffe] {
        refused_with(&with(|zip| zip.entries = Some(n)), &["entries"]);
    }
    refused_with(&with(|zip| zip.entries = Some(0xffff)), &["entries", "zip64 record that is not there"]);
    refused_with(&with(|zip| zip.directory_size = Some(u32::MAX)), &["directory size", "zip64"]);
    refused_with(&with(|zip| zip.directory_offset = Some(u32::MAX)), &["directory offset", "zip64"]);
    for n in [0, 1, 0x7fff_ffff] {
        refused_with(&with(|zip| zip.directory_size = Some(n)), &["central directory"]);
        refused_with(&with(|zip| zip.directory_offset = Some(n)), &["central directory"]);
    }
    // The sentinels with the record: good; with a record that lies: not.
    let sentinels = |zip64| {
        with(|zip| {
            zip.entries = Some(0xffff);
            zip.directory_size = Some(u32::MAX);
            zip.directory_offset = Some(u32::MAX);
            zip.zip64 = Some(zip64);
        })
    };
    assert_eq!(read_all(&sentinels([None; 3])).unwrap(), 1);
    for n in [0, 3, 5, 1 << 32, u64::MAX] {
        refused(&sentinels([Some(n), None, None]));
        refused(&sentinels([None, Some(n), None]));
        refused(&sentinels([None, None, Some(n)]));
    }
    refused_with(&with(|zip| zip.zip64 = Some([Some(5), None, None])), &["zip64 end record says 5"]);
}

#[test]
fn bytes_between_the_parts() {
    refused(&with(|zip| zip.members[0].before = b"x".to_vec()));
    refused_with(&with_data(|m| m.before = b"x".to_vec()), &["a/byteorder", "follow its payload"]);
    refused_with(&with_data(|m| m.after = b"x".to_vec()), &["a/data/0", "follow its payload"]);
    refused(&with(|zip| zip.before_directory = b"x".to_vec()));
    refused_with(&with(|zip| zip.after_directory = b"x".to_vec()), &["central directory"]);
    // A member that is in no directory.
    refused(&with_data(|m| m.before = b"PK\x03\x04 and so on".to_vec()));
}

#[test]
fn offsets_and_sizes_past_the_file_and_overlaps() {
    for n in [u32::MAX - 1, 1 << 20, 1] {
        refused(&with_data(|m| m.offset = Some(n)));
    }
    refused_with(&with_data(|m| m.offset = Some(0)), &["no local header before byte 0"]);
    for n in [u32::MAX - 1, 1 << 20, 25, 23, 0] {
        refused(&with_data(|m| m.sizes = Some([n; 2])));
    }
    refused_with(&with_data(|m| m.sizes = Some([24, 25])), &["packed size 24 and size 25"]);
    refused_with(&with_data(|m| m.local_sizes = Some([25, 25])), &["local header", "25"]);
    refused_with(&with_data(|m| m.offset = Some(5)), &["no local header before byte 5"]);
    // Every storage the same bytes: two records for one place.
    let zip = with(|zip| {
        let mut twin = zip.members[2].clone();
        twin.name = b"a/data/1".to_vec();
        twin.local_name = Some(b"a/data/0".to_vec());
        zip.members.push(twin);
    });
    refused_with(&zip, &["another name, \"a/data/0\""]);
}

#[test]
fn sizes_of_four_gigabytes_need_zip64() {
    refused_with(&with_data(|m| m.sizes = Some([u32::MAX; 2])), &["0xffffffff", "zip64"]);
    refused_with(&with_data(|m| m.offset = Some(u32::MAX)), &["offset is 0xffffffff"]);
    let field = |numbers: &[u64]| {
        let body: Vec<u8> = numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
        [&[1, 0, body.len() as u8, 0][..], &body].concat()
    };
    let wide = |central: &[u64], local: &[u64]| {
        with_data(|m| {
            m.sizes = Some([u32::MAX; 2]);
            m.extra = field(central);
            m.local_extra = field(local);
        })
    };
    assert_eq!(read_all(&wide(&[24, 24], &[24, 24])).unwrap(), 1);
    refused(&wide(&[24], &[24, 24]));
    refused(&wide(&[24, 24], &[24]));
    refused(&wide(&[24, 24], &[25, 25]));
    refused(&wide(&[u64::MAX, u64::MAX], &[24, 24]));
    refused(&wide(&[1 << 63, 1 << 63], &[24, 24]));
    refused_with(&with_data(|m| m.extra = vec![1, 0, 9, 0, 1]), &["cut extra field"]);
    refused_with(&with_data(|m| m.extra = field(&[]).repeat(2)), &["two zip64"]);
}

#[test]
fn names() {
    refused_with(&with_data(|m| m.local_name = Some(b"a/data/1".to_vec())), &["a/data/0", "another name"]);
    refused_with(&with(|zip| zip.members.push(member("a/data/0", b"x"))), &["a/data/0", "two members"]);
    for (name, why) in [
        (&b"a/../b"[..], "`..`"),
        (b"../a", "`..`"),
        (b"/a/b", "absolute"),
        (b"C:/a", "absolute"),
        (b"a\\b", "absolute or foreign"),
        (b"a/b\0c", "control"),
        (b"a/\x1b[2J", "control"),
        (b"a//b", "empty"),
        (b"", "empty"),
        (b"a/\xff", "UTF-8"),
        (&[b'a'; 65535], "longer than 1024"),
    ] {
        let file = with(|zip| {
            zip.members.push(Member { name: name.to_vec(), ..Member::default() });
        });
        let message = refused(&file);
        assert!(message.contains(why), "{message}");
        assert!(message.len() < 500 && !message.contains('\x1b') && !message.contains('\0'), "{message}");
    }
}

#[test]
fn methods_flags_and_checksums() {
    // Floats are no deflated bytes.
    let file = with_data(|m| m.method = 8);
    let checkpoint = Checkpoint::parse(&file).unwrap();
    let error = checkpoint.entries()[0].read_f32(&mut Vec::new()).unwrap_err().to_string();
    assert!(error.contains("a/data/0") && error.contains("damaged"), "{error}");
    refused_with(&with_data(|m| m.method = 99), &["method 99"]);
    refused_with(&with_data(|m| m.flags = 1), &["encrypted"]);
    refused_with(&with_data(|m| m.flags = 0x40), &["unknown flags 0x0040"]);
    refused_with(&with_data(|m| m.crc = Some(7)), &["a/data/0", "damaged", "0x00000007"]);
    refused_with(
        &with_data(|m| {
            m.streamed = true;
            m.crc = Some(7);
        }),
        &["damaged"],
    );
    // One flipped bit anywhere in a payload.
    let mut file = golden("zip.pth");
    let at = Checkpoint::parse(&file).unwrap().entries()[0].offset();
    file[at as usize + 5] ^= 4;
    refused_with(&file, &["damaged"]);
}

#[test]
fn storages_that_do_not_fit_their_tensors() {
    refused_with(&one_tensor(5, 6, 0, &[6], &[1]), &["a/data/0", "20 bytes", "6 elements of F32"]);
    refused_with(&one_tensor(7, 6, 0, &[6], &[1]), &["28 bytes"]);
    refused_with(&one_tensor(6, i64::MAX, 0, &[6], &[1]), &["elements of F32"]);
    refused_with(&one_tensor(6, 1 << 62, 0, &[6], &[1]), &["elements of F32"]);
    let missing = pth(&dict_of(&rebuild(&storage("FloatStorage", "9", 6), 0, &[6], &[1])), &[&floats_of(6)]);
    refused_with(&missing.build(), &["\"9\"", "no member \"a/data/9\""]);
}

#[test]
fn data_pkl_and_byteorder() {
    refused_with(&with(|zip| zip.members.retain(|m| m.name != b"a/data.pkl")), &["without data.pkl"]);
    refused_with(&with(|zip| zip.members.push(member("b/data.pkl", b"\x80\x02N."))), &["b/data.pkl", "one folder"]);
    refused_with(&with(|zip| zip.members.push(member("data.pkl", b"\x80\x02N."))), &["data.pkl"]);
    refused_with(&with(|zip| zip.members[1].data = b"big".to_vec()), &["byte order", "\"big\""]);
    let document = Zip { members: vec![member("mimetype", b"text"), member("content.xml", b"")], ..Zip::default() };
    refused_with(&document.build(), &["another kind of zip"]);
    let trailing = pickled(&[b"}".to_vec(), b".more".to_vec()].concat());
    refused_with(&pth(&trailing, &[]).build(), &["follow the pickle's STOP"]);
}

#[test]
fn other_files_under_the_name() {
    refused_with(&with(|zip| zip.members.push(member("a/constants.pkl", b"\x80\x02)."))), &["TorchScript"]);
    refused_with(&with(|zip| zip.members.push(member("a/code/__torch__.py", b""))), &["TorchScript"]);
    let mut tar = vec![0; 1024];
    tar[..8].copy_from_slice(b"storages");
    tar[257..262].copy_from_slice(b"ustar");
    refused_with(&tar, &["tar archive"]);
    refused_with(b"<!DOCTYPE html><html>404", &["HTML page", "download"]);
    refused_with(b"\n<HTML><head>", &["HTML page"]);
    refused_with(b"<?xml version=\"1.0\"?><Error><Code>AccessDenied", &["XML page"]);
    refused_with(b"version https://git-lfs.github.com/spec/v1\noid sha256:00", &["git-LFS", "git lfs pull"]);
    refused_with(b"{\"weight_map\": {}}", &["JSON"]);
    refused_with(b"\x1f\x8b\x08\0\0\0\0\0\0\0", &["gzip"]);
    refused_with(b"\x89HDF\r\n\x1a\n\0\0", &["HDF5"]);
    refused_with(b"\x80\x03}q\0.", &["bare pickle", "torch.save"]);
    refused_with(b"(dp0\nS'a'\nI1\ns.", &["protocol 0 or 1"]);
    refused_with(&[0xde; 100], &["neither", "de, de"]);
    for byte in 0..=255 {
        refused(&[byte]);
        refused(&[byte; 9]);
    }
    // Names do not matter: .safetensors called .pth and the reverse are simply read.
    assert!(read_all(&safetensors("{}", &[])).is_ok());
}

#[test]
fn keys_that_appear_twice_and_shared_storages() {
    let w = rebuild(&storage("FloatStorage", "0", 6), 0, &[6], &[1]);
    let twice = pickled(&[b"}(", &text("w")[..], &w, &text("w"), &w, b"u"].concat());
    refused_with(&crate::support::pth_of(&twice, 6), &["\"w\"", "set twice"]);
    // Python keeps the last value, which is none here.
    for value in [&b"N"[..], b"K\x01", b"}"] {
        let twice = pickled(&[b"}(", &text("w")[..], &w, &text("w"), value, b"u"].concat());
        refused_with(&crate::support::pth_of(&twice, 6), &["\"w\"", "set twice"]);
    }
    let shared = pickled(&[b"}(", &text("v")[..], &w, &text("w"), &w, b"u"].concat());
    assert_eq!(read_all(&crate::support::pth_of(&shared, 6)).unwrap(), 2);
    let double = rebuild(&storage("DoubleStorage", "0", 3), 0, &[3], &[1]);
    let types = pickled(&[b"}(", &text("v")[..], &w, &text("w"), &double, b"u"].concat());
    refused_with(&crate::support::pth_of(&types, 6), &["storage \"0\" is described twice", "6 of F32", "3 of F64"]);
    let odd = pickled(&[b"}(", &text("v")[..], &w, &int(3), &ints(&[]), b"u"].concat());
    refused_with(&crate::support::pth_of(&odd, 6), &["a key that is no string"]);
}
