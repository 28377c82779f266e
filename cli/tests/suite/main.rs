//! What the program does, as a user runs it: one file for each part.

mod convert;
mod demo;
mod explain;
mod export;
mod faults;
mod finetune_features;
mod finetune_folders;
mod finetune_learns;
mod finetune_mixed;
mod finetune_refusals;
mod finetune_resume;
mod full_disk;
mod in_place;
mod inspect;
mod killed;
mod measure;
mod models;
mod moved;
mod nobody_reads;
mod program;
mod programs;
mod report;
mod running;
mod shell;
mod step;
mod verify;
