//! Commands that are given the name of published weights instead of a file. Torchvision's own files are not at hand here:
//! what the program does with one that is there is tested with files of its name, and downloading in `published`.

use crate::running::{Place, Run, with_default_signals};
use crate::server::{Server, ranged, start_of, whole};
use nunatak_cli::args::network;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The program with these words, a cache in its own folder, and nothing else of this machine's environment.
fn command(place: &Place, words: &str) -> Command {
    let mut command = place.command(words);
    for name in ["NUNATAK_OFFLINE", "NUNATAK_WEIGHTS_URL", "TORCH_HOME", "ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY", "SSL_CERT_FILE"] {
        command.env_remove(name).env_remove(name.to_lowercase());
    }
    command.env("NUNATAK_CACHE", "cache").env("TORCH_HOME", "torch");
    command
}

fn offline(place: &Place, words: &str) -> Run {
    Run::of(command(place, words).env("NUNATAK_OFFLINE", "1").output().unwrap())
}

fn from(place: &Place, server: &Server, words: &str) -> Run {
    Run::of(command(place, words).env("NUNATAK_WEIGHTS_URL", server.base()).output().unwrap())
}

#[test]
fn every_command_knows_the_names() {
    let place = Place::new();
    for (words, file) in [
        ("finetune data --weights imagenet", "resnet18-f37072fd.pth"),
        ("finetune data --weights imagenet --arch resnet50", "resnet50-11ad3fa6.pth"),
        ("finetune data --weights resnet50.IMAGENET1K_V1 --dry-run", "resnet50-0676ba61.pth"),
        ("lr-find data --weights MobileNet_V2_Weights.IMAGENET1K_V2", "mobilenet_v2-7ebf99e0.pth"),
        ("step --arch resnet34 --weights imagenet --input i.safetensors --out o.safetensors", "resnet34-b627a593.pth"),
        ("export --weights imagenet --arch wide_resnet50_2 --target m7 --region ram=4M --out e", "wide_resnet50_2-9ba9bcbe.pth"),
        ("convert mobilenet_v3_small m.safetensors", "mobilenet_v3_small-047dcff4.pth"),
        ("inspect resnext50_32x4d", "resnext50_32x4d-1a0047aa.pth"),
        ("predict imagenet data/val/red/0.png", "resnet18-f37072fd.pth"),
        ("predict imagenet --arch resnet101 data/val/red/0.png", "resnet101-cd907fc2.pth"),
        ("evaluate resnet152.DEFAULT data/val", "resnet152-f82ba261.pth"),
        ("explain resnet18 data/val/red/0.png --out maps", "resnet18-f37072fd.pth"),
        ("measure --weights resnet18", "resnet18-f37072fd.pth"),
        ("plan --weights imagenet", "resnet18-f37072fd.pth"),
        ("profile --weights resnet18.imagenet1k_v1", "resnet18-f37072fd.pth"),
    ] {
        let run = offline(&place, words);
        let (address, target) = (format!("https://download.pytorch.org/models/{file}"), format!("put it at {}", "cache/"));
        assert!(run.code == Some(1) && run.err.contains(&address) && run.err.contains(&format!("{target}{file}")), "{words}: {}", run.err);
        assert!(run.err.contains("NUNATAK_OFFLINE") && !place.path("cache").exists(), "{words}: {}", run.err);
    }
    // What is in the way of a run is said before anything is downloaded.
    std::fs::write(place.path("m.pth"), "mine").unwrap();
    let run = offline(&place, "finetune data --weights imagenet --out m.pth");
    assert!(run.code == Some(1) && run.err.contains("--overwrite") && !run.err.contains("OFFLINE"), "{}", run.err);
    // Read in place are native files alone: nothing is brought to find that out.
    for words in
        ["finetune data --weights resnet18 --in-place", "measure --weights imagenet --in-place", "predict resnet18 --in-place a.png"]
    {
        let run = offline(&place, words);
        assert!(run.code == Some(2) && run.err.contains("nunatak convert") && !run.err.contains("OFFLINE"), "{words}: {}", run.err);
    }
}

#[test]
fn names_that_are_none_have_near_ones() {
    let place = Place::new();
    let run = offline(&place, "finetune data --weights resnet81");
    assert!(run.code == Some(1) && run.err.contains("no such file") && run.err.contains("near: resnet18"), "{}", run.err);
    let run = offline(&place, "finetune data --weights imagenet --arch resnet8");
    assert!(run.code == Some(2) && run.err.contains("nobody publishes weights of resnet8"), "{}", run.err);
    let run = offline(&place, "finetune data");
    assert!(run.code == Some(2) && run.err.contains("--weights imagenet downloads") && run.err.contains("46.8 MB"), "{}", run.err);
    for (url, words) in [("ftp://m/", "NUNATAK_WEIGHTS_URL"), ("http://u:p@m/", "NUNATAK_WEIGHTS_URL")] {
        let run = Run::of(command(&place, "inspect resnet18").env("NUNATAK_WEIGHTS_URL", url).output().unwrap());
        assert!(run.code == Some(2) && run.err.contains(words), "{}", run.err);
    }
}

#[test]
fn a_path_that_is_there_comes_before_a_name() {
    let place = Place::new();
    std::fs::copy(place.path("weights.safetensors"), place.path("resnet18")).unwrap();
    let run = offline(&place, "inspect resnet18");
    assert!(run.code == Some(0) && run.out.starts_with("resnet18: safetensors"), "{} {}", run.out, run.err);
    std::fs::create_dir(place.path("imagenet")).unwrap();
    let run = offline(&place, "finetune data --weights imagenet");
    assert!(run.code == Some(1) && run.err.contains("is a folder here") && run.err.contains("resnet18.IMAGENET1K_V1"), "{}", run.err);
}

#[test]
fn another_file_from_a_mirror_is_not_kept() {
    let place = Place::new();
    let server = Server::start(|_, _, stream| whole(stream, "", &[0; 1000], 1000));
    let run = from(&place, &server, "finetune data --weights imagenet");
    let address = format!("{}resnet18-f37072fd.pth", server.base());
    assert!(run.code == Some(1) && run.err.contains(&format!("downloading {address} (46.8 MB)")), "{}", run.err);
    assert!(run.err.contains("was not kept") && run.err.contains("expected f37072fd47e89c5e"), "{}", run.err);
    // No bar where there is no terminal.
    assert!(!run.err.contains(['\r', '\u{1b}']) && run.out.is_empty(), "{:?}", run.err);
    assert_eq!(std::fs::read_dir(place.path("cache")).unwrap().count(), 0);
    let run = from(&place, &server, "finetune data --weights imagenet --quiet");
    assert!(run.err.starts_with("error: ") && run.err.lines().count() == 1, "{}", run.err);
    assert!(!place.path("finetuned.safetensors.lock").exists());
    // The variable of a proxy is heard.
    let run = Run::of(
        command(&place, "inspect resnet18")
            .env("NUNATAK_WEIGHTS_URL", "http://nowhere.invalid")
            .env("ALL_PROXY", server.place())
            .env_remove("NO_PROXY")
            .env_remove("no_proxy")
            .output()
            .unwrap(),
    );
    assert!(run.code == Some(1) && server.heads().last().unwrap().contains("connect nowhere.invalid:80 "), "{}", run.err);
}

/// A run that a signal ends leaves what it has, and the next one goes on from there.
#[cfg(unix)]
#[test]
fn what_came_before_a_signal_is_kept() {
    let place = Place::new();
    let body = vec![3; 400_000];
    let server = Server::start(move |number, head, stream| {
        if number == 0 {
            whole(stream, "v", &body, 200_000);
            std::thread::sleep(Duration::from_secs(20));
        } else {
            ranged(stream, head, "v", &body);
        }
    });
    let mut command = command(&place, "inspect resnet18");
    command.env("NUNATAK_WEIGHTS_URL", server.base());
    let mut run = with_default_signals(command).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let part = place.path("cache/resnet18-f37072fd.pth.part");
    let began = Instant::now();
    while std::fs::metadata(&part).map_or(0, |meta| meta.len()) < 200_000 {
        assert!(began.elapsed() < Duration::from_secs(20));
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(Command::new("kill").args(["-INT", &run.id().to_string()]).status().unwrap().success());
    assert!(!run.wait().unwrap().success());
    assert_eq!(std::fs::metadata(&part).unwrap().len(), 200_000);
    let run = from(&place, &server, "inspect resnet18");
    assert!(run.err.contains("from byte 200000 on") && run.code == Some(1), "{}", run.err);
    assert_eq!(start_of(&server.heads()[1]), Some(200_000));
}

/// Torchvision evaluated its two recipes with images of different sizes: a file of a published name is shown images so.
#[test]
fn images_are_shown_as_the_weights_ask_for() {
    let place = Place::new();
    place.weights_of("w.safetensors", network("mobilenet_v3_small", Some(1000)).unwrap(), None);
    let view = |name: &str| {
        place.ok(&format!("convert w.safetensors {name}"));
        place.ok(&format!("convert {name} out.safetensors"));
        let report: serde_json::Value = serde_json::from_str(&place.ok("inspect out.safetensors --json").out).unwrap();
        report["metadata"]["nunatak.view"].as_str().map(String::from)
    };
    assert_eq!(view("mine.pth"), None);
    assert_eq!(view("mobilenet_v3_small-047dcff4.pth").as_deref(), Some(r#"{"resize":256,"size":224}"#));
    assert_eq!(view("resnet50-11ad3fa6.pth").as_deref(), Some(r#"{"resize":232,"size":224}"#));
    // It is what predicting and fine-tuning begin with, and what the fine-tuned model keeps.
    let run = place.ok("predict resnet50-11ad3fa6.pth data/val/red/0.png --report r.html --threads 1");
    assert!(!run.err.contains("cut out of a shorter side"), "{}", run.err);
    let page = String::from_utf8(place.bytes("r.html")).unwrap();
    assert!(page.contains("232"), "{page}");
    let tune = "finetune data --weights resnet50-11ad3fa6.pth --out t.safetensors --epochs 1 --batch 8 --threads 1";
    place.ok(tune);
    let report: serde_json::Value = serde_json::from_str(&place.ok("inspect t.safetensors --json").out).unwrap();
    assert_eq!(report["metadata"]["nunatak.view"], r#"{"resize":232,"size":224}"#);
    let options = String::from_utf8(place.bytes("t.safetensors.toml")).unwrap();
    assert!(options.contains("resize = 232") && options.contains("weights = \"resnet50-11ad3fa6.pth\""), "{options}");
}

/// Steps that are measured take weights of any format.
#[test]
fn measured_steps_take_any_format() {
    let place = Place::new();
    place.ok("convert weights.safetensors base.nunatak");
    let checksum = |weights: &str| {
        let run = place.ok(&format!("measure --weights {weights} --size 32 --repeat 1 --threads 1 --mode infer --json"));
        serde_json::from_str::<serde_json::Value>(&run.out).unwrap()["checksum"].clone()
    };
    let native = checksum("base.nunatak");
    assert!(native.is_number() || native.is_string(), "{native}");
    assert_eq!(checksum("weights.safetensors"), native);
    assert!(place.ok("plan --weights weights.safetensors --size 32").out.contains("conv1"));
    assert!(place.ok("profile --weights weights.safetensors --size 32 --repeat 1 --threads 1").out.contains("conv1"));
}
