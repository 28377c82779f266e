//! What a save refuses to replace.
#![cfg(unix)]

use nunatak_nn::files::{Data, TensorOut, write_pth, write_safetensors};
use std::collections::BTreeMap;

#[test]
fn a_pipe_is_not_replaced_by_a_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let pipe = folder.path().join("x.pth");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status().expect("mkfifo");
    assert!(made.success());
    let tensors = [TensorOut { name: "a", shape: &[1], data: Data::F32(&[1.0]) }];
    for error in [write_pth(&pipe, &tensors, &Default::default()), write_safetensors(&pipe, &tensors, &BTreeMap::new())] {
        let text = error.expect_err("a pipe").to_string();
        assert!(text.contains("x.pth") && text.contains("pipe"), "{text}");
    }
    assert!(!pipe.is_file(), "the pipe is still there");
    assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 1, "nothing else was left");
}
