//! The judgement by files, by what EC2 shows, and by the picture.

mod ec2;
mod group;
mod host;
