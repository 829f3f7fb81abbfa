// Links: the network between members as a table of directed links; decides if and when a packet arrives.
//
// Modes      Datagrams: every packet has a delay of its own, so they overtake each other. Streams: one ordered lane
//            for small urgent packets and one for the rest per link, as TCP gives; a broken connection loses an unknown
//            part of what is under way, and what it does not lose may arrive after the reconnect, at a new incarnation.
// Bounds     A link takes so many packets at a time; what it does not take is lost to the sender's knowledge.
using System;

namespace Cairn.Simulation;

/// <summary>What a link does with a packet: how many copies arrive, and when.</summary>
internal struct Delivery
{
    public int Copies;
    public long FirstNs;
    public long SecondNs;
    public bool IsRefused;
}

/// <summary>Shares and delays of one run.</summary>
/// <param name="Streams">Ordered lanes; false: datagrams.</param>
/// <param name="MinNs">Shortest delay.</param>
/// <param name="MeanNs">Mean of the exponential part.</param>
/// <param name="DropPermille">Lost.</param>
/// <param name="RepeatPermille">Delivered twice (datagrams only).</param>
/// <param name="SlowPermille">Delayed a hundred times as long.</param>
/// <param name="Capacity">Packets under way on one link.</param>
internal sealed record LinkShape(
    bool Streams, long MinNs, long MeanNs, int DropPermille, int RepeatPermille, int SlowPermille, int Capacity)
{
    public static LinkShape Draw(SimRandom random)
    {
        // A good half of the runs has a network without losses of its own, so that the other faults get far.
        bool lossy = random.Chance(45);
        return new LinkShape(
            Streams: random.Chance(50),
            MinNs: 1_000 + random.Below(random.Chance(50) ? 20_000L : 1_000_000L),
            MeanNs: 1_000 + random.Below(random.Chance(50) ? 100_000L : 3_000_000L),
            DropPermille: lossy ? random.Below(random.Chance(20) ? 300 : 60) : 0,
            RepeatPermille: random.Chance(50) ? random.Below(random.Chance(20) ? 300 : 50) : 0,
            SlowPermille: random.Chance(50) ? random.Below(40) : 0,
            Capacity: random.Chance(25) ? 1 + random.Below(8) : 4096);
    }
}

internal sealed class Links(LinkShape shape, SimRandom random)
{
    private const int MaxMembers = 64;
    private readonly Link[] _links = new Link[MaxMembers * MaxMembers];
    private LinkShape _shape = shape;

    public long Dropped { get; private set; }

    public long Repeated { get; private set; }

    /// <summary>From now on nothing is lost or repeated, all links are whole and no slower than this.</summary>
    public void Heal(long slowestNs)
    {
        _shape = _shape with
        {
            DropPermille = 0, RepeatPermille = 0, SlowPermille = 0, Capacity = 4096,
            MinNs = Math.Min(_shape.MinNs, slowestNs), MeanNs = Math.Min(_shape.MeanNs, slowestNs),
        };
        for (int i = 0; i < _links.Length; i++)
        {
            _links[i].CutCount = 0;
            _links[i].HeldUntilNs = 0;
            _links[i].LastUrgentNs = 0;
            _links[i].LastBulkNs = 0;
        }
    }

    /// <summary>Cuts (or after that mends) one direction. Cuts add up.</summary>
    public void Cut(int from, int to, bool isCut) =>
        At(from, to).CutCount = Math.Max(0, At(from, to).CutCount + (isCut ? 1 : -1));

    public bool IsCut(int from, int to) => At(from, to).CutCount > 0;

    /// <summary>Nothing arrives on this link before a time; then all of it at once.</summary>
    public void Hold(int from, int to, long untilNs) =>
        At(from, to).HeldUntilNs = Math.Max(At(from, to).HeldUntilNs, untilNs);

    /// <summary>The connection breaks: a later number of it makes packets of the earlier one suspect.</summary>
    public void Reset(int from, int to)
    {
        ref Link link = ref At(from, to);
        link.Connection++;
        link.LastUrgentNs = 0;
        link.LastBulkNs = 0;
    }

    public int Connection(int from, int to) => At(from, to).Connection;

    /// <summary>Is a packet sent over an earlier connection still delivered? Half of them are not.</summary>
    public bool Survives(int from, int to, int connection) =>
        !_shape.Streams || At(from, to).Connection == connection || random.Chance(50);

    /// <summary>A packet of a link has arrived or was lost.</summary>
    public void Left(int from, int to) => At(from, to).UnderWay--;

    /// <summary>Decides about one packet.</summary>
    public Delivery Send(int from, int to, bool isUrgent, long nowNs)
    {
        ref Link link = ref At(from, to);
        if (link.UnderWay >= _shape.Capacity)
        {
            Dropped++;
            return new Delivery { IsRefused = true };
        }

        if (link.CutCount > 0 || (_shape.DropPermille > 0 && random.Below(1000) < _shape.DropPermille))
        {
            Dropped++;
            return default;
        }

        var delivery = new Delivery { Copies = 1, FirstNs = Arrival(ref link, isUrgent, nowNs) };
        link.UnderWay++;
        if (!_shape.Streams && _shape.RepeatPermille > 0 && random.Below(1000) < _shape.RepeatPermille)
        {
            Repeated++;
            link.UnderWay++;
            delivery.Copies = 2;
            delivery.SecondNs = Arrival(ref link, isUrgent, nowNs) + random.Below((_shape.MeanNs * 20) + 1);
        }

        return delivery;
    }

    private long Arrival(ref Link link, bool isUrgent, long nowNs)
    {
        long delay = _shape.MinNs + Exponential(_shape.MeanNs);
        if (_shape.SlowPermille > 0 && random.Below(1000) < _shape.SlowPermille)
        {
            delay *= 100;
        }

        long arrival = Math.Max(nowNs + delay, link.HeldUntilNs);
        if (_shape.Streams)
        {
            ref long last = ref isUrgent ? ref link.LastUrgentNs : ref link.LastBulkNs;
            last = arrival = Math.Max(arrival, last + 1);
        }

        return arrival;
    }

    /// <summary>Integers only, so that every machine draws the same.</summary>
    private long Exponential(long mean)
    {
        ulong drawn = random.NextUInt64();
        long halvings = System.Numerics.BitOperations.TrailingZeroCount(drawn | (1UL << 20));
        long fraction = (long)((drawn >> 32) & 0xffff) * mean >> 16;
        return ((halvings * mean) + fraction) * 7 / 10;
    }

    private ref Link At(int from, int to) => ref _links[(from * MaxMembers) + to];

    private struct Link
    {
        public int CutCount;
        public int UnderWay;
        public int Connection;
        public long HeldUntilNs;
        public long LastUrgentNs;
        public long LastBulkNs;
    }
}
