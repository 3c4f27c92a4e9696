"""How often the base model's training clips showed each skill. Rarity makes the weaknesses that the method mends."""

MIXTURE = {
    "plain": 0.46,
    "instance_preservation": 0.10,
    "camera_motion": 0.10,
    "dynamic_attribute": 0.08,
    "motion_order_understanding": 0.07,
    "composition": 0.07,
    "dynamic_spatial_relationship": 0.06,
    "mechanics": 0.06,
}
