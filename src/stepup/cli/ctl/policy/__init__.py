"""`stepup ctl policy`: reads and changes the policy of a business."""
