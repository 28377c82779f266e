//! What every reader's target does: parse, then read each tensor in each way.

use nunatak_nn::files::Checkpoint;

pub fn read_all(bytes: &[u8]) {
    match Checkpoint::parse(bytes) {
        Ok(checkpoint) => {
            let mut out = Vec::new();
            for entry in checkpoint.entries() {
                // What is packed may be damaged, and some types are not read.
                if entry.read_f32(&mut out).is_ok() {
                    assert_eq!(out.len(), entry.len());
                }
                let _ = (entry.as_f32(), entry.read_i64());
                assert!(checkpoint.get(entry.name()).is_some());
            }
        }
        Err(error) => {
            let text = error.to_string();
            assert!(text.len() < 4000 && !text.contains(|c: char| c.is_control()), "{text}");
        }
    }
}
