// When a loop may block itself for a write: pauses double while others had to wait and become short again when nobody has.
using Cairn.Net.Http2;
using CsCheck;
using Xunit;

namespace Cairn.Net.Tests;

public sealed class CarryPolicyTests
{
    private const long Quick = 200_000;

    [Fact]
    public void Writes_ThatMeetNobody_AreAlwaysCarried()
    {
        var policy = new CarryPolicy();
        for (long now = 0; now < 1000; now++)
        {
            Assert.True(policy.MayCarry(now));
            policy.Carried(Quick, somebodyWaited: false, now);
        }
    }

    [Fact]
    public void Pauses_DoubleUpToASecond_AndAreShortAgainAfterAQuietRun()
    {
        var policy = new CarryPolicy();
        long now = 0;
        long expected = CarryPolicy.PauseMinNs;
        for (int i = 0; i < 12; i++)
        {
            Assert.True(policy.MayCarry(now));
            policy.Carried(Quick, somebodyWaited: true, now);
            now += Quick + expected;
            Assert.False(policy.MayCarry(now - 1));
            expected = System.Math.Min(2 * expected, CarryPolicy.PauseMaxNs);
        }

        Assert.Equal(CarryPolicy.PauseMaxNs, expected);
        for (int i = 0; i < CarryPolicy.QuietRun; i++)
        {
            policy.Carried(Quick, somebodyWaited: false, now);
        }

        policy.Carried(Quick, somebodyWaited: true, now);
        Assert.True(policy.MayCarry(now + Quick + CarryPolicy.PauseMinNs));
    }

    // Whatever happens, waiting others cost at most one write per pause, and no pause is longer than a second.
    [Fact]
    public void Policy_AnyHistory_NeverStopsForLongerThanASecond()
    {
        Gen.Select(Gen.Bool, Gen.Long[0, 20_000_000], Gen.Long[0, 50_000_000]).Array[1, 200].Sample(history =>
        {
            var policy = new CarryPolicy();
            long now = 0;
            foreach ((bool waited, long took, long idle) in history)
            {
                if (policy.MayCarry(now))
                {
                    policy.Carried(took, waited, now);
                    Assert.True(!waited || !policy.MayCarry(now + took));
                    Assert.True(policy.MayCarry(now + took + CarryPolicy.PauseMaxNs));
                }

                now += took + idle;
            }
        });
    }
}
