// Rings under real threads: nothing lost, nothing twice, order kept per producer.
using System.Threading;
using Xunit;

namespace Cairn.Base.Tests;

public sealed class RingTests
{
    [Fact]
    public void Mpsc_ManyProducers_EveryItemOnceAndInOrderPerProducer()
    {
        const int Producers = 4;
        const int PerProducer = 50_000;
        var ring = new MpscRing<(int Producer, int Number)>(64);
        var threads = new Thread[Producers];
        for (int p = 0; p < Producers; p++)
        {
            int id = p;
            threads[p] = new Thread(() =>
            {
                for (int i = 0; i < PerProducer; i++)
                {
                    while (!ring.TryEnqueue((id, i)))
                    {
                        Thread.Yield();
                    }
                }
            });
            threads[p].Start();
        }

        var next = new int[Producers];
        for (int taken = 0; taken < Producers * PerProducer;)
        {
            if (ring.TryDequeue(out (int Producer, int Number) item))
            {
                Assert.Equal(next[item.Producer]++, item.Number);
                taken++;
            }
            else
            {
                Thread.Yield();
            }
        }

        Assert.True(ring.IsEmpty);
        Assert.All(threads, t => t.Join());
    }

    [Fact]
    public void Mpsc_Full_RefusesUntilTaken()
    {
        var ring = new MpscRing<int>(4);
        for (int i = 0; i < 4; i++)
        {
            Assert.True(ring.TryEnqueue(i));
        }

        Assert.False(ring.TryEnqueue(4));
        Assert.True(ring.TryDequeue(out int first));
        Assert.Equal(0, first);
        Assert.True(ring.TryEnqueue(4));
        Assert.Equal(4, ring.Count);
    }

    [Fact]
    public void Spsc_ProducerAndConsumer_EveryItemInOrder()
    {
        const int Items = 500_000;
        var ring = new SpscRing<long>(128);
        var producer = new Thread(() =>
        {
            for (long i = 0; i < Items; i++)
            {
                while (!ring.TryEnqueue(i))
                {
                    Thread.Yield();
                }
            }
        });
        producer.Start();
        for (long expected = 0; expected < Items;)
        {
            if (ring.TryDequeue(out long item))
            {
                Assert.Equal(expected++, item);
            }
            else
            {
                Thread.Yield();
            }
        }

        producer.Join();
        Assert.False(ring.TryDequeue(out _));
    }

    [Fact]
    public void Spsc_Full_RefusesAndPeekDoesNotTake()
    {
        var ring = new SpscRing<int>(2);
        Assert.True(ring.TryEnqueue(1));
        Assert.True(ring.TryEnqueue(2));
        Assert.False(ring.TryEnqueue(3));
        Assert.True(ring.TryPeek(out int head));
        Assert.Equal(1, head);
        Assert.Equal(2, ring.Count);
    }
}
