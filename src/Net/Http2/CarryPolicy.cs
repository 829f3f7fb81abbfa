// CarryPolicy: when a loop may block itself for the sync of a write. Pure.
//
// Why        A client that is alone gains from it what four thread changes cost; others on the same loop would wait for the
//            disk with it. Whether there are others is not known before, so it is tried, and given up for a while when
//            somebody had to wait, each time for twice as long; a run of writes that met nobody makes the pauses short again.
//            A disk that needs more than a millisecond makes the thread changes a small part of the whole: then it is given
//            up as well.
using System;

namespace Cairn.Net.Http2;

/// <summary>The memory of one loop about its carried writes. A mutable value.</summary>
internal struct CarryPolicy()
{
    /// <summary>The shortest pause after somebody had to wait, ns.</summary>
    public const long PauseMinNs = 10_000_000;

    /// <summary>The longest, ns.</summary>
    public const long PauseMaxNs = 1_000_000_000;

    /// <summary>A write that took longer was slow, ns.</summary>
    public const long SlowNs = 1_000_000;

    /// <summary>So many slow writes in a row are no accident.</summary>
    public const int SlowMax = 4;

    /// <summary>So many writes that met nobody make the pauses short again.</summary>
    public const int QuietRun = 256;

    private long _untilNs = long.MinValue;
    private long _pauseNs = PauseMinNs;
    private int _quiet;
    private int _slow;

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

        _slow = tookNs > SlowNs ? _slow + 1 : 0;
        if (_slow >= SlowMax)
        {
            _slow = 0;
            _untilNs = nowNs + tookNs + PauseMinNs;
        }
    }
}
