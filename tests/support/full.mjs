/** Whether tests of long runs take their full size: MIXLAB_TESTS=full. */
export const FULL = process.env.MIXLAB_TESTS === 'full';
