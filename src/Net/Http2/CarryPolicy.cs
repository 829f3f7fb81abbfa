// CarryPolicy: when a loop may block itself for the sync of a write. Pure.
//
// Why        A client that is alone gains from it what four thread changes cost; others on the same loop would wait for the
//            disk with it. Whether there are others is not known before, so it is tried, and given up for a while when
//            somebody had to wait, each time for twice as long; a run of writes that met nobody makes the pauses short again.
//            How long the disk takes does not matter while nobody waits: where the machine is busy the thread changes that
//            are saved cost more, too.
using System;

namespace Cairn.Net.Http2;

/// <summary>The memory of one loop about its carried writes. A mutable value.</summary>
internal struct CarryPolicy()
{
    /// <summary>The shortest pause after somebody had to wait, ns.</summary>
    public const long PauseMinNs = 10_000_000;

    /// <summary>The longest, ns.</summary>
    public const long PauseMaxNs = 1_000_000_000;

    /// <summary>So many writes that met nobody make the pauses short again.</summary>
    public const int QuietRun = 256;

    private long _untilNs = long.MinValue;
    private long _pauseNs = PauseMinNs;
    private int _quiet;

    /// <summary>False during a pause.</summary>
    public readonly bool MayCarry(long nowNs) => nowNs >= _untilNs;

    /// <summary>A write was carried.</summary>
    /// <param name="tookNs">How long the loop was not there for others.</param>
    /// <param name="somebodyWaited">Something had arrived in the meantime.</param>
    /// <param name="nowNs">When the pass began.</param>
    public void Carried(long tookNs, bool somebodyWaited, long nowNs)
    {
        if (somebodyWaited)
        {
            _untilNs = nowNs + tookNs + _pauseNs;
            _pauseNs = Math.Min(2 * _pauseNs, PauseMaxNs);
            _quiet = 0;
            return;
        }

        if (++_quiet >= QuietRun)
        {
            _quiet = 0;
            _pauseNs = PauseMinNs;
        }
    }
}
