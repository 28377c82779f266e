//! Native files: what is written is read, and any other bytes are a typed error.

use nunatak_nn::files::native::{Layout, Native, NativeErrorKind as Kind};
use nunatak_nn::files::save::Save;
use nunatak_nn::files::{Checkpoint, ReadErrorKind};
use nunatak_nn::{Graph, Level, Loss, Program, Recipe, Stem, Step, Threads, Trainer};
use proptest::prelude::*;
use sha2::{Digest, Sha256};

/// A small network: widths that are padded, one layer with a downsample.
fn recipe() -> Recipe {
    let stem = Stem { kernel: 3, stride: 1, pad: 1, pool: false };
    Recipe::new(&[1, 1], &[3, 5], stem, 2, 2).expect("a recipe")
}

/// A step that trains the head alone, or infers.
fn plan(loss: Loss, batch: usize) -> Program<'static> {
    let graph = Graph::new();
    let values = graph.usual([batch, 2, 8, 8], loss, |g, x| recipe().record(g, x)).expect("a recording");
    Step::new(&graph).root(values.root).train("head").plan().expect("a plan")
}

/// A whole network, and a delta over it.
fn files() -> [Vec<u8>; 2] {
    let mut memory = vec![0; Trainer::bytes(&plan(Loss::Sum, 2))];
    let mut trainer = Trainer::new(plan(Loss::Sum, 2), &mut memory, Level::detect(), Threads::serial()).expect("memory");
    trainer.init(1);
    let pairs = [("a", "one"), ("ключ", "Wert")];
    let save = |trainer: &Trainer, what| {
        let saving = trainer.saving(what, &pairs).expect("can be saved");
        let mut bytes = vec![0; saving.len()];
        let hash = saving.write_to(&mut bytes).map(|_| ()).and_then(|()| saving.write::<nunatak_nn::Error>(&mut |_| Ok(())));
        assert_eq!(hash, Native::parse(&bytes).map(|file| file.hash()).map_err(nunatak_nn::Error::from));
        assert!(saving.write_to(&mut vec![0; bytes.len() - 1]).is_err());
        bytes
    };
    let whole = save(&trainer, Save::Network);
    let (program, file) = (plan(Loss::Sum, 2), Native::parse(&whole).expect("good"));
    let mut memory = vec![0; Trainer::bytes(&program)];
    let trainer = Trainer::with_weights(program, &mut memory, file, Level::detect(), Threads::serial()).expect("fits");
    let delta = save(&trainer, Save::Delta);
    [whole, delta]
}

/// Gives a changed head its hash.
fn forge(bytes: &mut [u8]) {
    let head = u32::from_le_bytes(bytes[24..28].try_into().expect("four")) as usize;
    if let Some(rest) = bytes.get(160..head) {
        let hash: [u8; 32] = Sha256::new().chain_update(&bytes[..128]).chain_update(rest).finalize().into();
        bytes[128..160].copy_from_slice(&hash);
    }
}

/// Everything that reads must end without a panic, whatever it says.
fn read_all(bytes: &[u8]) {
    let _ = Native::at_front(bytes).map(|file| file.verify());
    match Native::parse(bytes) {
        Ok(file) => {
            let mut room = Vec::new();
            for tensor in file.tensors() {
                assert_eq!(file.tensor(tensor.name()).map(|t| t.offset()), Some(tensor.offset()));
                if tensor.layout() != Layout::Count {
                    room.resize(tensor.numbers(), 0.0);
                    tensor.read(&mut room);
                }
                let _ = (tensor.verify(), tensor.count());
            }
            let _ = (file.verify(), file.in_place(), file.metadata().count());
        }
        Err(e) => {
            let text = e.to_string();
            assert!(text.len() < 400 && !text.contains(|c: char| c.is_control()), "{text}");
        }
    }
    let _ = Checkpoint::parse(bytes);
}

fn kind(bytes: &[u8]) -> Kind {
    Native::parse(bytes).expect_err("must be refused").kind
}

#[test]
fn what_is_written_is_read() {
    let [whole, delta] = files();
    let (file, other) = (Native::parse(&whole).expect("good"), Native::parse(&delta).expect("good"));
    assert_eq!((file.recipe(), file.base(), file.verify()), (Some(&recipe()), None, Ok(())));
    assert_eq!((other.recipe(), other.base(), other.verify()), (Some(&recipe()), Some(file.hash()), Ok(())));
    assert_eq!(file.metadata().collect::<Vec<_>>(), [("a", "one"), ("ключ", "Wert")]);
    assert_eq!((file.metadata_of("a"), file.metadata_of("b")), (Some("one"), None));
    let program = plan(Loss::None, 1);
    let names: Vec<_> = program.entries().map(|id| program.entry(id).name()).collect();
    assert_eq!(file.tensors().map(|t| t.name()).collect::<Vec<_>>(), names);
    for tensor in file.tensors() {
        let floats = tensor.layout() != Layout::Count;
        assert!(tensor.offset().is_multiple_of(if floats { 64 } else { 8 }), "{tensor:?}");
        assert_eq!(floats, tensor.count().is_none());
    }
    // The file as documented, read by hand.
    let word = |at: usize| u32::from_le_bytes(whole[at..at + 4].try_into().expect("four")) as usize;
    assert_eq!(&whole[..8], b"\x89nunatak");
    assert_eq!((word(8), word(12), word(16), word(28)), (1, 0x01020304, whole.len(), names.len()));
    assert_eq!((whole[40], whole[41], &whole[48..51], word(72), word(76)), (2, 3, &[1, 1, 0][..], 2, 2));
    let names_at = 192 + 40 * names.len();
    assert_eq!(&whole[names_at..names_at + 12], b"conv1.weight");
    assert_eq!((word(192), word(196), word(200), word(204)), (3, 2, 3, 3));
    assert_eq!((whole[192 + 22], whole[192 + 23]), (4, 16));
    let conv1 = file.tensor("conv1.weight").expect("there");
    assert_eq!(word(208) * 8, conv1.offset());
    assert_eq!(conv1.checksum(), &Sha256::digest(conv1.bytes())[..16]);
    let mut values = vec![f32::NAN; conv1.numbers()];
    conv1.read(&mut values);
    assert!(values.iter().enumerate().all(|(i, v)| conv1.element(i) == *v && *v != 0.0));
    // Any reader of checkpoints reads it.
    let checkpoint = Checkpoint::parse(&whole).expect("a checkpoint");
    let mut same = Vec::new();
    checkpoint.get("conv1.weight").expect("there").read_f32(&mut same).expect("reads");
    assert_eq!(same, values);
    assert_eq!(checkpoint.metadata().get("a").map(String::as_str), Some("one"));
}

#[test]
fn every_prefix_and_every_longer_file_is_refused() {
    for file in files() {
        for len in 0..file.len() {
            let e = kind(&file[..len]);
            assert!(matches!((e, len), (Kind::NotNative, 0) | (Kind::Truncated { .. }, _)), "{len}: {e:?}");
            assert!(len > 300 || Checkpoint::parse(&file[..len]).is_err());
        }
        let mut longer = file.clone();
        longer.extend([0; 64]);
        assert_eq!(kind(&longer), Kind::Length { expected: file.len() as u64, got: longer.len() as u64 });
        assert!(Native::at_front(&longer).is_ok_and(|f| f.bytes().len() == file.len()), "in flash more may follow");
    }
}

/// One bit anywhere is found: in the head at once, in the data by `verify`.
#[test]
fn every_changed_byte_is_found() {
    let [file, _] = files();
    let head = u32::from_le_bytes(file[24..28].try_into().expect("four")) as usize;
    let mut file = file;
    for i in 0..file.len() {
        let bit = 1 << (i % 8);
        file[i] ^= bit;
        match Native::parse(&file) {
            Ok(native) => {
                assert!(i >= head, "byte {i} of the head");
                let e = native.verify().expect_err("damaged");
                assert!(matches!(e.kind, Kind::TensorChecksum | Kind::Gap), "byte {i}: {e}");
            }
            Err(_) => assert!(i < head, "byte {i} of the data was looked at"),
        }
        assert!(i % 64 != 0 || Checkpoint::parse(&file).is_err());
        file[i] ^= bit;
    }
}

#[test]
fn what_a_forger_writes_is_refused() {
    let [whole, delta] = files();
    let file = Native::parse(&whole).expect("good");
    let tensors = file.tensors().count();
    let (table, names) = (192, 192 + 40 * tensors);
    let entry = |name: &str| table + 40 * file.tensors().position(|t| t.name() == name).expect("there");
    let forged = |edit: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = whole.clone();
        edit(&mut bytes);
        forge(&mut bytes);
        read_all(&bytes);
        kind(&bytes)
    };
    let put = |at: usize, value: u32| move |bytes: &mut Vec<u8>| bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
    assert_eq!(forged(&|b| b[0] = 0x88), Kind::NotNative);
    assert_eq!(forged(&put(8, 2)), Kind::Version { got: 2 });
    assert_eq!(forged(&|b| b[12..16].reverse()), Kind::ByteOrder);
    assert!(matches!(forged(&put(20, 1)), Kind::Truncated { .. } | Kind::TooLarge));
    assert!(matches!(forged(&put(16, 0)), Kind::Head(_)));
    for (at, value) in [(24, 0), (24, 191), (24, u32::MAX), (28, 1025), (28, u32::MAX), (32, 0), (32, u32::MAX), (36, u32::MAX)] {
        assert!(matches!(forged(&put(at, value)), Kind::Head(_) | Kind::HeadChecksum), "{at} {value}");
    }
    for (at, byte) in [
        (40, 0),
        (40, 9),
        (41, 0),
        (42, 0),
        (44, 2),
        (45, 1),
        (45, 2),
        (46, 1),
        (48, 0),
        (50, 1),
        (60, 1),
        (72, 0),
        (80, 1),
        (96, 1),
        (160, 1),
    ] {
        assert!(matches!(forged(&|b| b[at] = byte), Kind::Head(_)), "byte {at}");
    }
    // Fewer tensors than there are, or more.
    for n in [0, tensors as u32 - 1, tensors as u32 + 1] {
        forged(&put(28, n));
    }
    // A tensor that overlaps the one before, or leaves a hole.
    let at = entry("bn1.weight");
    let place = u32::from_le_bytes(whole[at + 16..at + 20].try_into().expect("four"));
    for other in [place - 8, place + 8, 0, u32::MAX] {
        assert_eq!(forged(&put(at + 16, other)), Kind::Offset { expected: u64::from(place) * 8, got: u64::from(other) * 8 });
    }
    // Shapes that are larger than the file, than memory, than numbers.
    let conv = entry("conv1.weight");
    for d in 0..4 {
        assert!(matches!(
            forged(&put(conv + 4 * d, 1 << 28)),
            Kind::Offset { .. } | Kind::Truncated { .. } | Kind::Tensor(_) | Kind::TooLarge
        ));
        assert!(matches!(forged(&put(conv + 4 * d, 0)), Kind::Tensor(_)));
        assert!(matches!(forged(&put(conv + 4 * d, u32::MAX)), Kind::Tensor(_)));
    }
    let all = forged(&|b| (0..4).for_each(|d| put(conv + 4 * d, 1 << 28)(b)));
    assert!(matches!(all, Kind::TooLarge | Kind::Tensor(_)), "{all:?}");
    let plain = forged(&|b| {
        (0..4).for_each(|d| put(conv + 4 * d, 1 << 28)(b));
        b[conv + 23] = 1;
    });
    assert_eq!(plain, Kind::TooLarge);
    // Layouts and dimensions.
    for (offset, byte) in [(22, 0), (22, 5), (22, 255), (23, 0), (23, 2), (23, 32), (23, 255)] {
        assert!(matches!(forged(&|b| b[conv + offset] = byte), Kind::Tensor(_)), "{offset} {byte}");
    }
    let count = entry("bn1.num_batches_tracked");
    assert!(matches!(forged(&|b| b[count + 22] = 1), Kind::Tensor(_)));
    assert!(matches!(forged(&|b| b[count + 23] = 16), Kind::Tensor(_)));
    // Names: empty, too long, unprintable, twice.
    assert!(matches!(forged(&|b| b[conv + 20] = 0), Kind::Tensor(_)));
    assert!(matches!(forged(&|b| b[conv + 20] = 49), Kind::Tensor(_)));
    assert!(matches!(forged(&|b| b[conv + 21] = 0xff), Kind::Tensor(_)));
    for byte in [0, b' ', b'\n', 0x1b, 0x7f, 0xc3] {
        assert!(matches!(forged(&|b| b[names] = byte), Kind::Tensor(_)), "{byte}");
    }
    let second = names + "conv1.weight".len();
    let same = forged(&|b| {
        // bn1.weight and bn1.bias become bn1.w and bn1.weibn1.w…: lengths moved so that two are one.
        b[second..second + 10].copy_from_slice(b"abcdeabcde");
        b[entry("bn1.weight") + 20] = 5;
        let bias = entry("bn1.bias");
        b[bias + 20] = 5;
    });
    assert_eq!(same, Kind::DuplicateName);
    // Metadata: lengths past the end, no text, one key twice.
    let metadata = u32::from_le_bytes(whole[32..36].try_into().expect("four")) as usize;
    assert!(matches!(forged(&put(metadata, u32::MAX)), Kind::Head(_)));
    assert!(matches!(forged(&put(metadata + 4, u32::MAX)), Kind::Head(_)));
    assert!(matches!(forged(&|b| b[metadata + 8] = 0xff), Kind::Head(_)));
    // A delta without its base.
    let mut bytes = delta.clone();
    bytes[96..128].fill(0);
    forge(&mut bytes);
    assert!(matches!(kind(&bytes), Kind::Head(_)));
    // Zeros that are none, under right checksums: weights of channels that do not exist.
    let conv1 = file.tensor("conv1.weight").expect("there");
    let mut bytes = whole.clone();
    bytes[conv1.offset() + 4 * 15 + 3] = 0x3f;
    let sum = Sha256::digest(&bytes[conv1.offset()..conv1.offset() + conv1.bytes().len()]);
    bytes[conv + 24..conv + 40].copy_from_slice(&sum[..16]);
    forge(&mut bytes);
    let native = Native::parse(&bytes).expect("the head is right");
    assert_eq!(native.verify().map_err(|e| e.kind), Err(Kind::Padding));
    assert_eq!(Checkpoint::parse(&bytes).map(|_| ()).map_err(|e| e.kind()), Err(ReadErrorKind::Native));
}

/// A negative variance or count can't come from any training.
#[test]
fn impossible_values_are_refused_by_whoever_uses_them() {
    let [whole, _] = files();
    let file = Native::parse(&whole).expect("good");
    let program = plan(Loss::None, 2);
    let mut memory = vec![0; Trainer::bytes(&program)];
    for (name, at, byte) in [("bn1.running_var", 3, 0xbf), ("bn1.num_batches_tracked", 7, 0x80)] {
        let mut bytes = whole.clone();
        bytes[file.tensor(name).expect("there").offset() + at] = byte;
        let native = Native::parse(&bytes).expect("the data are not looked at");
        let error = Trainer::with_weights(program.view(), &mut memory, native, Level::detect(), Threads::serial()).expect_err("refused");
        assert!(error.to_string().contains(name), "{error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]
    #[test]
    fn any_head_with_its_hash_is_read_or_refused(
        edits in prop::collection::vec((0_usize..1 << 16, prop::sample::select(vec![0_u8, 1, 2, 15, 16, 31, 32, 64, 127, 128, 255])), 1..6),
        of_delta: bool,
    ) {
        let [whole, delta] = files();
        let mut bytes = if of_delta { delta } else { whole };
        let head = u32::from_le_bytes(bytes[24..28].try_into().expect("four")) as usize;
        for (at, byte) in edits {
            bytes[at % head] = byte;
        }
        forge(&mut bytes);
        read_all(&bytes);
    }
}
