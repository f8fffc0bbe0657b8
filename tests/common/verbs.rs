//! Every verb of vipctl's that asks a member, with arguments that a living group refuses or that leave it as it is: what
//! is still in a socket when a frozen member goes on harms nothing.

pub const TO_A_MEMBER: [&[&str]; 15] = [
    &["status"],
    &["routes"],
    &["transfer-leader"],
    &["drain", "az-x"],
    &["undrain", "az-x"],
    &["pause"],
    &["resume"],
    &["history"],
    &["doctor"],
    &["iam-policy"],
    &["member", "list"],
    &["member", "add", "az-x", "--peer", "10.0.9.10:7400"],
    &["member", "promote", "az-x"],
    &["member", "remove", "az-x"],
    &["member", "replace", "az-x", "az-y", "--peer", "10.0.9.10:7400"],
];
