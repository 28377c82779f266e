//! What the program does, as a user runs it: one file for each part.

mod convert;
mod demo;
mod explain;
mod export;
mod export_onnx;
mod finetune_features;
mod finetune_folders;
mod finetune_learns;
mod finetune_mixed;
mod finetune_refusals;
mod finetune_resume;
mod in_place;
mod inspect;
mod max_mem;
mod measure;
mod models;
mod program;
mod programs;
mod published;
mod report;
mod running;
mod server;
mod shell;
mod step;
mod verify;
mod weights_by_name;
