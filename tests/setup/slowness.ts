/**
 * How many times as long everything takes as where the times in these tests are enough: the lab is emulated. From
 * PERCH_TEST_SLOWNESS.
 */
export const slowness = Number(process.env.PERCH_TEST_SLOWNESS || 1);
