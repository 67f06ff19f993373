//! Managers and workers as their users have them, over loopback.
//!
//! Start reading at [`world::World`].
#![cfg(test)]

mod authority;
mod backup;
mod cfssl;
mod convergence;
mod life;
mod scale;
mod services;
mod worker;
mod world;
