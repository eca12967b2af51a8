-- Which limit an edge counts for: 0 inside of the cluster, 1 outside, 2 networks outside.
ALTER TABLE edges ADD COLUMN share INTEGER NOT NULL DEFAULT 0;
