//! What every reader's target does: parse, then read each tensor in each way.

use nunatak_nn::checkpoint::Checkpoint;

pub fn read_all(bytes: &[u8]) {
    match Checkpoint::parse(bytes) {
        Ok(checkpoint) => {
            let mut out = Vec::new();
            for entry in checkpoint.entries() {
                entry.read_f32(&mut out).expect("a checked entry reads");
                assert_eq!(out.len(), entry.len());
                let _ = (entry.as_f32(), entry.read_i64());
                assert!(checkpoint.get(entry.name()).is_some());
            }
        }
        Err(error) => {
            let text = error.to_string();
            assert!(
                text.len() < 4000 && !text.contains(|c: char| c.is_control()),
                "{text}"
            );
        }
    }
}
