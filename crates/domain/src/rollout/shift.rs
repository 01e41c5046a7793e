//! How a service's requests go over from the tasks of one version to those of another, where that is not task by task.
//!
//! ECS starts as many new tasks as are wanted, beside the old ones and in another target group, and then moves the requests by the
//! weights of a rule of the listener. The old tasks stay until it is through, so it can go back at once.
//! <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/deployment-type-blue-green.html>

use serde::{Deserialize, Serialize};

use crate::manifest::{Rollout, Strategy};

/// A strategy other than rolling.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shift {
    /// In which portions the requests go over.
    pub traffic: Traffic,
    /// For how many minutes the old tasks stay after that.
    pub bake: u32,
    /// Whether ECS waits to be told to go on once the new tasks answer test requests, and nobody else's.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_tested: bool,
}

/// In which portions requests go over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Traffic {
    /// In one.
    AllAtOnce,
    /// In two.
    Canary {
        /// The first one, in percent.
        percent: u8,
        /// For how many minutes it is all.
        minutes: u32,
    },
    /// In many of one size.
    Linear {
        /// Each of them, in percent.
        percent: u8,
        /// How many minutes come between two of them.
        minutes: u32,
    },
}

impl Shift {
    /// What a manifest asks for, unless that is rolling.
    #[must_use]
    pub fn of(rollout: &Rollout) -> Option<Shift> {
        let (percent, minutes) = (rollout.percent(), rollout.pause_minutes());
        let traffic = match rollout.strategy {
            Strategy::Rolling => return None,
            Strategy::BlueGreen => Traffic::AllAtOnce,
            Strategy::Canary => Traffic::Canary { percent, minutes },
            Strategy::Linear => Traffic::Linear { percent, minutes },
        };
        Some(Shift { traffic, bake: rollout.bake_minutes(), is_tested: rollout.test_traffic })
    }

    /// The way back: nothing is waited for.
    pub const BACK: Shift = Shift { traffic: Traffic::AllAtOnce, bake: 0, is_tested: false };

    /// The same for a first version: there are no requests to go over from another, so nothing is waited for but its tests.
    #[must_use]
    pub fn of_a_first(self) -> Shift {
        Shift { is_tested: self.is_tested, ..Shift::BACK }
    }

    /// How long the requests take to go over, once the first do, in minutes.
    #[must_use]
    pub fn minutes(self) -> u32 {
        match self.traffic {
            Traffic::AllAtOnce => 0,
            Traffic::Canary { minutes, .. } => minutes,
            Traffic::Linear { percent, minutes } => minutes * (100_u32.div_ceil(u32::from(percent.max(1))) - 1),
        }
    }
}
