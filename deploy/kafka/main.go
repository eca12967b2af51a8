// A broker and a client of Kafka for tests: franz-go and its in-memory broker.
//
//	kafka-peer broker                   serves on a free port of 127.0.0.1, which is printed
//	kafka-peer client ADDRESS [MOST]    runs steps against a broker behind ADDRESS, and prints what became of each;
//	                                    MOST is a release of Kafka whose versions are the newest that it speaks
package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
)

func main() {
	if len(os.Args) >= 3 && os.Args[1] == "client" {
		client(os.Args[2], append(os.Args, "")[3])
		return
	}
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(2, "orders", "secret"))
	if err != nil {
		panic(err)
	}
	fmt.Println(cluster.ListenAddrs()[0])
	// Until whoever started it is gone.
	var end [1]byte
	_, _ = os.Stdin.Read(end[:])
}

// Whatever the broker says of its address, connections go through the one that is tested.
func options(front, most string, more ...kgo.Opt) []kgo.Opt {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "tcp", front)
	}
	found := []kgo.Opt{kgo.SeedBrokers(front), kgo.Dialer(dial), kgo.RequestRetries(1), kgo.RecordRetries(1),
		kgo.RetryTimeout(5 * time.Second), kgo.RecordDeliveryTimeout(8 * time.Second), kgo.MetadataMinAge(50 * time.Millisecond)}
	if versions := kversion.FromString(most); most != "" {
		found = append(found, kgo.MaxVersions(versions))
	}
	return append(found, more...)
}

func step(name string, err error) {
	text := "ok"
	if err != nil {
		text = err.Error()
		if known, is := err.(*kerr.Error); is {
			text = known.Message
		}
	}
	fmt.Printf("%s: %s\n", name, text)
}

func client(front, most string) {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	one, err := kgo.NewClient(options(front, most)...)
	if err != nil {
		panic(err)
	}
	for _, codec := range []kgo.CompressionCodec{kgo.NoCompression(), kgo.GzipCompression(), kgo.SnappyCompression(), kgo.ZstdCompression()} {
		producer, _ := kgo.NewClient(options(front, most, kgo.ProducerBatchCompression(codec))...)
		step("produce orders", producer.ProduceSync(ctx, record("orders")).FirstErr())
		producer.Close()
	}
	step("fetch orders", consume(ctx, front, most, "orders", 4))
	step("group on orders", group(ctx, front, most, "orders", 4))
	step("transaction on orders", transaction(ctx, front, most, "orders"))
	step("produce secret", one.ProduceSync(ctx, record("secret")).FirstErr())
	step("fetch secret", consume(ctx, front, most, "secret", 1))
	step("metadata secret", metadata(ctx, one, "secret"))
	step("metadata orders", metadata(ctx, one, "orders"))
	step("produce orders again", one.ProduceSync(ctx, record("orders")).FirstErr())
}

func record(topic string) *kgo.Record {
	return &kgo.Record{Topic: topic, Value: make([]byte, 2000)}
}

// The first error of a fetch, or none once so many records are here.
func collect(ctx context.Context, consumer *kgo.Client, count int) error {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	for count > 0 {
		fetches := consumer.PollFetches(ctx)
		if errs := fetches.Errors(); len(errs) > 0 {
			return errs[0].Err
		}
		count -= fetches.NumRecords()
	}
	return nil
}

func consume(ctx context.Context, front, most, topic string, count int) error {
	consumer, err := kgo.NewClient(options(front, most, kgo.ConsumeTopics(topic))...)
	if err != nil {
		return err
	}
	defer consumer.Close()
	return collect(ctx, consumer, count)
}

func group(ctx context.Context, front, most, topic string, count int) error {
	consumer, err := kgo.NewClient(options(front, most, kgo.ConsumeTopics(topic), kgo.ConsumerGroup("readers"))...)
	if err != nil {
		return err
	}
	defer consumer.Close()
	if err := collect(ctx, consumer, count); err != nil {
		return err
	}
	return consumer.CommitUncommittedOffsets(ctx)
}

func transaction(ctx context.Context, front, most, topic string) error {
	producer, err := kgo.NewClient(options(front, most, kgo.TransactionalID("t"))...)
	if err != nil {
		return err
	}
	defer producer.Close()
	if err := producer.BeginTransaction(); err != nil {
		return err
	}
	if err := producer.ProduceSync(ctx, record(topic)).FirstErr(); err != nil {
		return err
	}
	return producer.EndTransaction(ctx, kgo.TryCommit)
}

func metadata(ctx context.Context, one *kgo.Client, topic string) error {
	request := kmsg.NewMetadataRequest()
	asked := kmsg.NewMetadataRequestTopic()
	asked.Topic = kmsg.StringPtr(topic)
	request.Topics = append(request.Topics, asked)
	answer, err := request.RequestWith(ctx, one)
	if err != nil {
		return err
	}
	return kerr.ErrorForCode(answer.Topics[0].ErrorCode)
}
